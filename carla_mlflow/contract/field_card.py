"""The card's section `observation`: one entry a field."""

from __future__ import annotations

from typing import Any, Literal

from msgspec import UNSET, UnsetType

from .array_spec import ArraySpec
from .section import Section
from .specs import ObservationSpec


class Seen(Section, frozen=True):
    """The smallest and largest value in training: one number, or one per element of the last axis.

    Attributes:
        low: the smallest value.
        high: the largest value.
    """

    low: float | list[float]
    high: float | list[float]


_Row = list[float | None]
_Rows2 = list[float | _Row | None]
_Rows3 = list[float | _Rows2 | None]
_Rows4 = list[float | _Rows3 | None]
FieldBound = float | list[float | _Rows4 | None] | None
"""One number, or a list; msgspec knows no recursive types, and so lists are nested at most five deep."""


class FieldCard(Section, frozen=True):
    """One observation.

    `ArraySpec` checks its values; `history` says what frames are. Since format 2 a list of bounds may hold
    null, for an element without a bound, and may be nested, one level an axis.

    Attributes:
        dtype: float32, or uint8 for images (channels first).
        shape: without the batch axis; [] for one number.
        low: smallest value: one number, or a list with one per element of the last axis; null: no bound.
        high: largest value, likewise. What lies outside is refused.
        unit: such as m/s or rad; "1" for a ratio.
        seen: the range in training. What lies outside is counted, not refused.
        history: the ticks whose frames the field holds, oldest first, the latest being 0. Unset: 0 only.
        history_start: what stands for ticks before the episode's first: its first frame, or zeros.
        choices: how many values each element may have, if they are choices and no quantities: one number, or one per
            element of the last axis. Unset: quantities.
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


def _seen(field: FieldCard) -> Any:
    return None if isinstance(field.seen, UnsetType) else (_bound(field.seen.low), _bound(field.seen.high))


def _choices(field: FieldCard) -> int | tuple[int, ...] | None:
    if isinstance(field.choices, UnsetType):
        return None
    return tuple(field.choices) if isinstance(field.choices, list) else field.choices


def _bound(value: Any) -> Any:
    return tuple(_bound(each) for each in value) if isinstance(value, list) else value
