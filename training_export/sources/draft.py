"""A card's draft: what only the author of a policy can say about it."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import msgspec
from msgspec import UNSET, UnsetType

from carla_mlflow.contract.action_card import ActionCard, Control
from carla_mlflow.contract.card_rules import check_action, check_tolerance
from carla_mlflow.contract.card_sections import Parity, StateCard
from carla_mlflow.contract.control import unstated_scales, without_defaults
from carla_mlflow.contract.control_kinds import CHOICE, NAMED, RAW_NAMES
from carla_mlflow.contract.field_card import FieldCard
from carla_mlflow.contract.heads import PARAMETERS
from carla_mlflow.contract.history import check_histories, frame_spec
from carla_mlflow.contract.state_rules import state_problems
from carla_mlflow.contract.strict_yaml import read_section, read_yaml
from carla_mlflow.errors import CardError

FULL_BRAKE: dict[str, float | str] = {"throttle": 0.0, "brake": 1.0, "steer": 0.0}
FALLBACKS: dict[str, dict[str, float | str]] = {"acceleration": {"acceleration": -1.0}, "steer": {"steer": 0.0}}
"""The fallbacks of policies without pedals whose author states none; with `control: named` only the author knows it."""
SCALES = (
    "add to the card's `action:` the raw values for which the environment applies full throttle, full brake and full "
    "steering to the right; they may lie outside the bounds (for throttle = a / 3, brake = -a / 8, steer = -s: "
    "full_throttle: 3.0, full_brake: -8.0, full_right: -1.0)"
)
"""The hint for raw actions whose bounds alone do not say what they mean."""


class NoActionError(CardError):
    """Neither the author's card nor the source says what the actions are."""


class OtherActionsError(CardError):
    """The action section is not that of the policy.

    Attributes:
        gives: what the policy gives, in words.
    """

    def __init__(self, text: str, gives: str) -> None:
        super().__init__(text)
        self.gives = gives


class ActionDraft(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The card's action section, in which what the source itself knows may be left out.

    Attributes:
        raw: names with bounds, or names alone where the source has the bounds (gymnasium spaces).
        head: what the network returns. Unset: as the source says.

    What it says of no key, ActionCard does; see `draft_schema`.
    """

    control: str
    raw: dict[str, tuple[float, float]] | list[str] | None = None
    head: str | None = None
    rate_hz: float = 20.0
    fallback: dict[str, float | str] | None = None
    deterministic: Literal["mode", "mean"] = "mode"
    table: list[Control] | None = None
    full_throttle: float | UnsetType = UNSET
    full_brake: float | UnsetType = UNSET
    full_right: float | UnsetType = UNSET
    repeat: int | UnsetType = UNSET
    choices: list[str] | dict[str, list[str]] | UnsetType = UNSET


class Tolerance(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The author's limit on how far a graph may differ from the trained policy: atol + rtol · |value|."""

    atol: float = Parity().atol
    rtol: float = Parity().rtol

    @property
    def parity(self) -> Parity:
        return Parity(atol=self.atol, rtol=self.rtol)


class CardDraft(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The sections of a card that the author writes.

    Attributes:
        action: what the policy answers. May be left out where --env says it, or a checkpoint.
        observation: what it observes, by name, in the order of forward()'s arguments. Unset: as the source says.
        training: how it was trained: whatever you want to keep, such as the seed.
        parity: a tolerance of your own instead of the measured noise.
        state: the memory of a policy that has one, in the order of forward()'s arguments.
    """

    action: ActionDraft | None = None
    observation: dict[str, FieldCard] | None = None
    name: str = "carla-policy"
    version: str = "0.1.0"
    description: str = ""
    training: dict[str, Any] = {}
    parity: Tolerance | None = None
    state: dict[str, StateCard] = {}


def read_draft(path: Path) -> CardDraft:
    """Reads the author's sections of a card from YAML.

    Raises:
        CardError: the draft is invalid; says what is wrong, and where.
    """
    try:
        draft = read_section(read_yaml(path.read_bytes(), path.name), CardDraft, path.name)
    except OSError as error:
        raise CardError(f"{path}: {error.strerror}") from error
    if draft.observation is not None:
        if problems := check_histories(draft.observation):
            raise CardError(f"{path.name}: {problems[0]}")
        frame_spec(draft.observation)
    if draft.parity is not None and (problems := check_tolerance(draft.parity.parity)):
        raise CardError(f"{path.name}: {problems[0]}")
    return draft


def states_of(draft: CardDraft, section: dict[str, FieldCard], action: ActionCard) -> dict[str, StateCard]:
    """The states of the author's card, which has them for a policy with a memory.

    Args:
        draft: the author's card.
        section: the observation section, with whose names those of the states may not collide.
        action: likewise, for the graph's outputs.

    Raises:
        CardError: the states contradict themselves, or collide with a name of the graph.
    """
    if draft.state and (problems := state_problems(draft.state, section, action)):
        raise CardError("; ".join(problems))
    return draft.state


def complete(
    draft: ActionDraft | None, head: str | None = None, bounds: list[tuple[float, float]] | None = None
) -> ActionCard:
    """Completes the card's action section.

    Args:
        draft: the author's section; None raises CardError.
        head: the source's own head, if known; the author may leave it out, but not contradict it.
        bounds: of each raw dimension, if the source knows them.

    Raises:
        CardError: something is missing, or contradicts the source or itself.
    """
    if draft is None:
        raise NoActionError(
            "pass --card FILE with an action section: control, raw names and bounds can't be read from the source"
        )
    own = {"head": _head(draft, head), "raw": _raw(draft, bounds), "fallback": _fallback(draft)}
    action = ActionCard(**{**msgspec.structs.asdict(draft), **own})
    problems = check_action(action)
    if problems:
        raise CardError("; ".join(problems))
    action = msgspec.structs.replace(action, fallback={name: action.fallback[name] for name in action.control_names})
    unstated = unstated_scales(action)
    if unstated:
        raise CardError("; ".join(unstated) + f": {SCALES}")
    return msgspec.structs.replace(action, **without_defaults(action))


def _fallback(draft: ActionDraft) -> dict[str, float | str]:
    if draft.fallback is not None:
        return draft.fallback
    if draft.control == NAMED:
        raise CardError(
            "action.fallback is missing: what to do when no action comes in time, by the names of the raw dimensions, "
            "such as {choice: IDLE}"
        )
    return FALLBACKS.get(draft.control, FULL_BRAKE)


def _head(draft: ActionDraft, head: str | None) -> str:
    """The head that the source and the author name; `head` is the source's own, if known."""
    if head is not None and draft.head not in {None, head}:
        raise CardError(f"action.head {draft.head}: the source's own head is {head}")
    named = head or draft.head
    if named is None:
        raise CardError(f"action.head is missing: --card FILE has to name one of {', '.join(PARAMETERS)}")
    return named


def _raw(draft: ActionDraft, bounds: list[tuple[float, float]] | None) -> dict[str, tuple[float, float]]:
    """The raw dimensions with their bounds; `bounds` are the source's own, if known."""
    raw = draft.raw
    if raw is None and draft.table is not None:
        raw = {CHOICE: (0.0, len(draft.table) - 1.0)}
    elif raw is None and isinstance(draft.choices, list):
        raw = {CHOICE: (0.0, len(draft.choices) - 1.0)}
    if raw is None and draft.control in FALLBACKS:
        raw = list(RAW_NAMES[draft.control])
    if isinstance(raw, list) and bounds is not None and len(raw) == len(bounds):
        raw = dict(zip(raw, bounds, strict=True))
    if not isinstance(raw, dict):
        raise OtherActionsError(_raw_missing(raw, bounds), _numbers(bounds or []))
    if bounds is not None and list(raw.values()) != bounds:
        raise OtherActionsError(
            f"action.raw: the bounds {list(raw.values())} are not the source's own, {bounds}", _numbers(bounds)
        )
    return raw


def _raw_missing(raw: list[str] | None, bounds: list[tuple[float, float]] | None) -> str:
    if bounds is None:
        return "action.raw: expected each raw dimension with its bounds, in the network's order: {steer: [-1, 1], …}"
    named = f"{len(raw)} names" if raw is not None else "nothing"
    return f"action.raw: expected the names of the {len(bounds)} raw dimensions in the network's order, got {named}"


def _numbers(bounds: list[tuple[float, float]]) -> str:
    return f"{len(bounds)} numbers ({', '.join(f'{low:g} to {high:g}' for low, high in bounds)})"
