"""The sections of model_card.yaml, as types; `card.py` reads, checks and writes them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from typing import Any, Literal

import msgspec
import numpy as np
from msgspec import UNSET, UnsetType
from numpy.typing import NDArray

from .array_bounds import LARGEST
from .array_spec import ArraySpec
from .control_kinds import ANSWERED, CHOICE, CONTROL_NAMES, NAMED
from .heads import CHOOSING, PARAMETERS
from .specs import ObservationSpec


class _Section(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=False):
    """A part of the card. Unknown keys are refused, so that a misspelt key is not silently replaced by a default.

    A key added after format 1 has the default UNSET. While unset, it is neither written, hashed nor compared, so that
    older cards keep their bytes and hashes; see `newer_keys`.
    """


class Seen(_Section, frozen=True):
    """The smallest and largest value in training: one number, or one per element of the last axis."""

    low: float | list[float]
    high: float | list[float]


_Row = list[float | None]
_Rows2 = list[float | _Row | None]
_Rows3 = list[float | _Rows2 | None]
_Rows4 = list[float | _Rows3 | None]
FieldBound = float | list[float | _Rows4 | None] | None
"""One number, or a list; msgspec knows no recursive types, and so lists are nested at most five deep."""


class FieldCard(_Section, frozen=True):
    """One observation; see ArraySpec.

    Since format 2 a list of bounds may hold null, for an element without a bound, and may be nested, one level an axis.

    Attributes:
        history: the ticks whose frames the field holds, oldest first, the latest being 0; see `history`. Unset: 0 only.
        history_start: what stands for ticks before the episode's first: its first frame, or zeros.
        choices: see ArraySpec. Unset: the values are quantities.
        source: the observation's name in the environment where the policy was trained, if that is no identifier or lies
            in a Dict within a Dict (the names joined by dots). Unset: its name here.
    """

    dtype: Literal["float32", "uint8"]
    shape: list[int]
    low: FieldBound = None
    high: FieldBound = None
    unit: str = "1"
    seen: Seen | UnsetType = UNSET
    history: list[int] | UnsetType = UNSET
    history_start: Literal["repeat", "zeros"] | UnsetType = UNSET
    choices: int | list[int] | UnsetType = UNSET
    source: str | UnsetType = UNSET


class StateCard(_Section, frozen=True):
    """One state of a policy with a memory: the graph takes it and returns its next value; see `memory`.

    Attributes:
        initial: its value at the beginning of an episode: one number, or one per element of the last axis.
    """

    dtype: Literal["float32"]
    shape: list[int]
    initial: float | list[float] = 0.0


class Control(_Section, frozen=True):
    """What carla.VehicleControl takes: throttle and brake in [0, 1], steer in [-1, 1]."""

    throttle: float
    brake: float
    steer: float


class ActionCard(_Section, frozen=True):
    """How the graph's outputs become what the policy answers: throttle, brake and steer, or what `control` says.

    Attributes:
        fallback: what to do when no action comes in time, by `control_names`; a choice by its label or its index.
        choices: with `control: named`, the labels of the choices: a list for the raw dimension `choice`, or lists by
            the names of raw dimensions.
        full_throttle: the raw value that means throttle 1; it may lie outside the bounds. Unset: 1. See `control`.
        full_brake: the raw value that means brake 1, likewise. Unset: -1 for an acceleration, 1 for a pedal.
        full_right: the raw value that means steer 1, likewise. Unset: 1.
        repeat: ticks for which an action holds (frame skip), so that ticks come at `rate_hz` × `repeat`. Unset: 1.
    """

    head: str
    raw: dict[str, tuple[float, float]]
    control: str
    rate_hz: float
    fallback: dict[str, float | str]
    deterministic: Literal["mode", "mean"] = "mode"
    table: list[Control] | None = None
    full_throttle: float | UnsetType = UNSET
    full_brake: float | UnsetType = UNSET
    full_right: float | UnsetType = UNSET
    repeat: int | UnsetType = UNSET
    choices: list[str] | dict[str, list[str]] | UnsetType = UNSET

    @property
    def control_names(self) -> tuple[str, ...]:
        """The names of what the policy answers, in order."""
        return tuple(self.raw) if self.control == NAMED else ANSWERED.get(self.control, CONTROL_NAMES)

    @property
    def is_pedals(self) -> bool:
        """Whether the policy answers throttle, brake and steer."""
        return self.control != NAMED and self.control not in ANSWERED

    @property
    def choice_counts(self) -> tuple[int, ...]:
        """The number of choices of each raw dimension; empty for a policy that does not choose."""
        if self.table is None and self.head not in CHOOSING and not (self.control == NAMED and CHOICE in self.raw):
            return ()
        return tuple(int(high) + 1 for _, high in self.raw.values())

    @property
    def bounds(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Smallest and largest raw action, each float32 (A,)."""
        bounds = np.array(list(self.raw.values()), dtype=np.float32)
        return bounds[:, 0].copy(), bounds[:, 1].copy()

    @property
    def tick_hz(self) -> float:
        """Ticks per second: how often a policy is to see an observation, though it decides at `rate_hz`."""
        return self.rate_hz * (self.repeat or 1)

    def outputs(self) -> dict[str, int]:
        """The graph's outputs in order, name → width: `raw`, then the head's parameters."""
        width = len(self.raw)
        logits = width if self.head == "bernoulli" else sum(self.choice_counts)
        return {"raw": width} | {n: logits if n == "logits" else width for n in PARAMETERS[self.head]}

    def to_dict(self) -> dict[str, Any]:
        """As plain values, without a table when there is none."""
        return {key: value for key, value in msgspec.to_builtins(self).items() if value is not None}


NEWER_ACTIONS = (NAMED, *ANSWERED, "multi_categorical", "bernoulli")
"""The kinds of control and heads that format 1 does not have."""


class FileCard(_Section, frozen=True, omit_defaults=True):
    """One file beside the card."""

    sha256: str
    backend: Literal["torchscript", "onnx"] | None = None


class Preprocessing(_Section, frozen=True):
    """Whether preprocessing is inside the graph, and the file of the fitted preprocessor."""

    in_graph: bool
    source: str | None = None


class Parity(_Section, frozen=True):
    """The file of the trained policy's answers, and how far a copy may differ: |a - b| <= atol + rtol * |b|.

    Attributes:
        free_running: takes atol's place for a policy with a memory that runs golden.npz's rollouts with its own states,
            so that differences add up. Set for such policies only.
    """

    file: str = "golden.npz"
    atol: float = 1.0e-6
    rtol: float = 1.0e-5
    free_running: float | UnsetType = UNSET


class CardFields(_Section, frozen=True, kw_only=True):
    """The keys of model_card.yaml. `content` and `weights` are hashes; see `content_hash`.

    Attributes:
        state: the memory of a policy that has one, in the graph's order; see `memory`.
    """

    format: int
    name: str
    version: str
    backend: Literal["torchscript", "onnx"]
    description: str
    observation: dict[str, FieldCard]
    state: dict[str, StateCard] | UnsetType = UNSET
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
    def states(self) -> dict[str, StateCard]:
        """The section `state`; empty for a policy without memory."""
        return {} if isinstance(self.state, UnsetType) else self.state

    def to_dict(self) -> dict[str, Any]:
        """As plain values, in the order of model_card.yaml."""
        return {**msgspec.to_builtins(self), "action": self.action.to_dict()}

    def depended_on(self) -> dict[str, dict[str, Any]]:
        """What a car's code depends on: the names, types, shapes, bounds and order of observations and actions.

        Of a memory, that there is one: the caller carries states from step to step, but does not look into them.
        """
        fields = {
            name: {"dtype": f.dtype, "shape": f.shape, "low": _closed(f.low, -1), "high": _closed(f.high, 1)}
            | ({"history": f.history, "history_start": f.history_start} if f.history else {})
            for name, f in self.observation.items()
        }
        action = {k: v for k, v in self.action.to_dict().items() if k != "fallback"}
        memory = {"state": {"carried": True}} if self.states else {}
        return {"observation": fields, "action": action, **memory}

    @property
    def contract(self) -> str:
        """First 12 hex digits of the hash of `depended_on`, with the order of observations and actions."""
        part = self.depended_on()
        fields = [[name, *field.values()] for name, field in part["observation"].items()]
        raw = [[name, *bounds] for name, bounds in part["action"]["raw"].items()]
        return canonical_hash({**part, "observation": fields, "action": {**part["action"], "raw": raw}})[:12]


def newer_keys(value: Any, place: str = "") -> Iterator[str]:
    """The places in a card, or in a part of one, of keys and values that format 1 does not have."""
    if isinstance(value, ActionCard):
        yield from (place + key for key in ("control", "head") if getattr(value, key) in NEWER_ACTIONS)
    if isinstance(value, msgspec.Struct):
        for field in msgspec.structs.fields(value):
            item = getattr(value, field.name)
            if item is not UNSET:
                if field.default is UNSET or (isinstance(item, list) and _is_open_or_nested(item)):
                    yield place + field.name
                yield from newer_keys(item, f"{place}{field.name}.")
    elif isinstance(value, dict):
        for name, item in value.items():
            yield from newer_keys(item, f"{place}{name}.")


def _is_open_or_nested(items: list[Any]) -> bool:
    return any(item is None or isinstance(item, list) for item in items)


def observation_spec(section: dict[str, FieldCard]) -> ObservationSpec:
    """The specs of a card's observation section, in its order."""
    return ObservationSpec(
        ArraySpec(
            name,
            f.dtype,
            tuple(f.shape),
            _bound(f.low),
            _bound(f.high),
            f.unit,
            _seen(f),
            _choices(f),
            None if isinstance(f.source, UnsetType) else f.source,
        )
        for name, f in section.items()
    )


def _closed(bound: Any, sign: int) -> Any:
    """A bound with float32's largest number for an open element, as format 1 writes it: the contract is the same."""
    if not isinstance(bound, list):
        return bound
    return [sign * LARGEST if value is None else _closed(value, sign) for value in bound]


def _seen(field: FieldCard) -> Any:
    return None if isinstance(field.seen, UnsetType) else (_bound(field.seen.low), _bound(field.seen.high))


def _choices(field: FieldCard) -> int | tuple[int, ...] | None:
    if isinstance(field.choices, UnsetType):
        return None
    return tuple(field.choices) if isinstance(field.choices, list) else field.choices


def _bound(value: Any) -> Any:
    return tuple(_bound(each) for each in value) if isinstance(value, list) else value


def canonical_hash(value: Any) -> str:
    """sha256 over canonical JSON: sorted keys, no white space; 64 hex digits."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
