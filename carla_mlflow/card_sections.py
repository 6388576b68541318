"""The sections of model_card.yaml, as types; `card.py` reads, checks and writes them."""

from __future__ import annotations

import hashlib
import json
from typing import Any, Literal

import msgspec
import numpy as np

from .specs import ArraySpec, Bound, ObservationSpec


class _Section(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=False):
    """A part of the card: unknown keys are refused, so that a typo never passes for a default."""


class FieldCard(_Section, frozen=True):
    """One observation; see ArraySpec."""

    dtype: Literal["float32", "uint8"]
    shape: list[int]
    low: float | list[float] | None = None
    high: float | list[float] | None = None
    unit: str = "1"


class Control(_Section, frozen=True):
    """What carla.VehicleControl takes: throttle and brake in [0, 1], steer in [-1, 1]."""

    throttle: float
    brake: float
    steer: float


class ActionCard(_Section, frozen=True):
    """How the graph's outputs become throttle, brake and steer."""

    head: str
    raw: dict[str, tuple[float, float]]
    control: str
    rate_hz: float
    fallback: Control
    deterministic: Literal["mode", "mean"] = "mode"


class FileCard(_Section, frozen=True, omit_defaults=True):
    """One file beside the card."""

    sha256: str
    backend: Literal["torchscript", "onnx"] | None = None


class Preprocessing(_Section, frozen=True):
    """Whether preprocessing is inside the graph, and the file that it was fitted as."""

    in_graph: bool
    source: str | None = None


class Parity(_Section, frozen=True):
    """What the trained policy did, and how far a copy may differ: |a - b| <= atol + rtol * |b|."""

    file: str = "golden.npz"
    atol: float = 1.0e-6
    rtol: float = 1.0e-5


class Card(_Section, frozen=True):
    """The whole of model_card.yaml. `content` and `weights` are hashes; see `content_hash`."""

    format: int
    name: str
    version: str
    backend: Literal["torchscript", "onnx"]
    description: str
    observation: dict[str, FieldCard]
    action: ActionCard
    files: dict[str, FileCard]
    preprocessing: Preprocessing
    parity: Parity
    weights: str
    content: str = ""
    training: dict[str, Any] = {}
    metrics: dict[str, Any] = {}

    @property
    def observation_spec(self) -> ObservationSpec:
        return observation_spec(self.observation)

    @property
    def raw_names(self) -> tuple[str, ...]:
        return tuple(self.action.raw)

    @property
    def raw_bounds(self) -> tuple[Any, Any]:
        """Smallest and largest raw action, each float32 (A,)."""
        bounds = np.array(list(self.action.raw.values()), dtype=np.float32)
        return bounds[:, 0], bounds[:, 1]

    @property
    def contract(self) -> str:
        """First 12 hex digits of the hash of what a car's code depends on; see design of versions in `registry`."""
        fields = [[n, f.dtype, f.shape, f.low, f.high] for n, f in self.observation.items()]
        action = msgspec.to_builtins(self.action)
        del action["fallback"]
        action["raw"] = [[name, *bounds] for name, bounds in self.action.raw.items()]  # keeps the order
        return canonical_hash({"observation": fields, "action": action})[:12]


def observation_spec(section: dict[str, FieldCard]) -> ObservationSpec:
    """The specs of a card's observation section, in its order."""
    return ObservationSpec(
        ArraySpec(name, f.dtype, tuple(f.shape), _bound(f.low), _bound(f.high), f.unit) for name, f in section.items()
    )


def _bound(value: float | list[float] | None) -> Bound:
    return tuple(value) if isinstance(value, list) else value


def canonical_hash(value: Any) -> str:
    """sha256 over canonical JSON: sorted keys, no white space; 64 hex digits."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
