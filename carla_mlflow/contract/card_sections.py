"""The sections of model_card.yaml, as types; `card.py` reads, checks and writes them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from typing import Any, Literal

import msgspec
from msgspec import UNSET, UnsetType

from .action_card import NEWER_ACTIONS, ActionCard
from .array_bounds import LARGEST
from .field_card import FieldCard, observation_spec
from .section import Section
from .specs import ObservationSpec


class StateCard(Section, frozen=True):
    """One state of a policy with a memory: the graph takes it and returns its next value.

    See `memory`.

    Attributes:
        dtype: of the state; float32 only.
        shape: without the batch axis, as the graph takes it.
        initial: its value at the beginning of an episode: one number, or one per element of the last axis.
    """

    dtype: Literal["float32"]
    shape: list[int]
    initial: float | list[float] = 0.0


class FileCard(Section, frozen=True, omit_defaults=True):
    """One file beside the card.

    Attributes:
        sha256: of its bytes, 64 hex digits.
        backend: what runs it, if it is a graph. Unset: it is none.
    """

    sha256: str
    backend: Literal["torchscript", "onnx"] | None = None


class Preprocessing(Section, frozen=True):
    """Whether preprocessing is inside the graph, and the file of the fitted preprocessor.

    Attributes:
        in_graph: whether the graph takes observations as they come; else the preprocessor runs before it.
        source: the file of the fitted preprocessor, if there is one.
    """

    in_graph: bool
    source: str | None = None


class Parity(Section, frozen=True):
    """The file of the trained policy's answers, and how far a copy may differ: |a - b| <= atol + rtol * |b|.

    Attributes:
        file: the golden observations, with what the trained policy gave for them.
        atol: the part of the tolerance that is the same for all values.
        rtol: the part that grows with the value.
        free_running: takes atol's place for a policy with a memory that runs golden.npz's rollouts with its own states,
            so that differences add up. Set for such policies only.
    """

    file: str = "golden.npz"
    atol: float = 1.0e-6
    rtol: float = 1.0e-5
    free_running: float | UnsetType = UNSET


class CardFields(Section, frozen=True, kw_only=True):
    """The keys of model_card.yaml.

    What a memory is, `memory` says; what the hashes are of, `content_hash`.

    Attributes:
        format: of the card: 1, or 2 where it has a key that format 1 does not have.
        name: of the policy.
        version: semantic version.
        backend: which of the graphs is served: the faster one when it was exported.
        description: one line for people.
        observation: what the policy observes, by name, in the order of the graph's inputs.
        state: the memory of a policy that has one, in the graph's order.
        action: what the policy answers, and how that is made of what the graph gives.
        files: every other file of the artifact, by name.
        preprocessing: where observations are preprocessed.
        parity: how far a copy of the policy may differ from the trained one.
        weights: the hash of the weights: equal where only the version or a text differs.
        content: the hash of the card without version, description, metrics and training: an edited card is refused.
        training: how it was trained: whatever the trainer says, such as seed, steps and commit.
        metrics: what was measured of it: latency, and how it drove.
    """

    format: int
    name: str
    version: str
    backend: Literal["torchscript", "onnx", "openvino"]
    description: str
    observation: dict[str, FieldCard]
    state: dict[str, StateCard] | UnsetType = UNSET
    action: ActionCard
    files: dict[str, FileCard]
    preprocessing: Preprocessing
    parity: Parity
    weights: str
    content: str = ""
    training: dict[str, Any] = msgspec.field(default_factory=dict)
    metrics: dict[str, Any] = msgspec.field(default_factory=dict)

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
        Units are not part of it, whose hash older cards have without them; see `registry.rules.changes`.
        """
        fields = {
            name: {"dtype": f.dtype, "shape": f.shape, "low": _closed(f.low, -1), "high": _closed(f.high, 1)}
            | ({"history": f.history, "history_start": f.history_start} if f.history else {})
            | {key: value for key in ("choices", "source") if (value := getattr(f, key)) is not UNSET}
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
    if isinstance(value, CardFields) and value.backend == "openvino":
        yield "backend"
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


def _closed(bound: Any, sign: int) -> Any:
    """A bound with float32's largest number for an open element, as format 1 writes it: the contract is the same."""
    if not isinstance(bound, list):
        return bound
    return [sign * LARGEST if value is None else _closed(value, sign) for value in bound]


def canonical_hash(value: Any) -> str:
    """sha256 over canonical JSON: sorted keys, no white space; 64 hex digits."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
