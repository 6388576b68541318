"""Fields that hold several ticks: the rules for `history` and `repeat` in a card, and the spec of one frame.

A field with `history: [-3, -2, -1, 0]` is given to the graph, and sent over the wire, as one array: the frames of these
ticks, oldest first, joined along the first axis. A frame of the shape [c, …] makes [n · c, …] of n ticks; a number
counts as a frame of the shape [1].
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from msgspec import UnsetType

from ..errors import CardError
from .array_bounds import MAX_ELEMENTS, Array, Bound
from .array_spec import ArraySpec
from .field_card import FieldCard, observation_spec
from .specs import ObservationSpec

MAX_TICKS = 64
"""The most frames of one field."""
OLDEST = -1000
"""The oldest tick that a history may name: 50 seconds at 20 Hz."""
MAX_REPEAT = 1000
"""The most ticks that an action may hold."""


def check_histories(section: dict[str, FieldCard]) -> list[str]:
    """What is wrong with the histories of a card's observation section, in words."""
    return [problem for name, field in section.items() for problem in history_problems(name, field)]


def history_problems(name: str, field: FieldCard) -> Iterator[str]:
    """What is wrong with a field's history, in words."""
    place, ticks = f"observation.{name}", field.history
    if isinstance(ticks, UnsetType):
        if not isinstance(field.history_start, UnsetType):
            yield f"{place}.history_start: expected nothing where there is no history"
        return
    if isinstance(field.history_start, UnsetType):
        yield f"{place}.history_start: expected repeat or zeros: what stands for the ticks before the first"
    increases = all(older < newer for older, newer in itertools.pairwise(ticks))
    if not 2 <= len(ticks) <= MAX_TICKS or not increases or ticks[-1] != 0 or ticks[0] < OLDEST:
        yield (
            f"{place}.history: expected 2 to {MAX_TICKS} ticks from {OLDEST} on, increasing, of which the last is 0: "
            "[-3, -2, -1, 0]"
        )
    elif not field.shape or field.shape[0] % len(ticks):
        yield f"{place}.shape: {field.shape}: the first axis has to hold the frames of {len(ticks)} ticks, all alike"
    elif (1 - ticks[0]) * math.prod(field.shape) // len(ticks) > MAX_ELEMENTS:
        yield f"{place}.history: {1 - ticks[0]} frames of {field.shape} are too many to keep"


def frame_spec(section: dict[str, FieldCard]) -> ObservationSpec:
    """What one tick's observation has to be: the fields, and one frame for each field with a history.

    Raises:
        CardError: a field contradicts itself, or its bounds do not allow the frames that its history needs.
    """
    return ObservationSpec(
        _frame(spec, field, len(field.history)) if field.history else spec
        for spec, field in zip(observation_spec(section), section.values(), strict=True)
    )


def _frame(spec: ArraySpec, field: FieldCard, ticks: int) -> ArraySpec:
    """The spec of one frame. Each element lies within the bounds of all the places that it takes as it grows older."""
    if field.history_start == "zeros" and not ((spec.lows <= 0) & (spec.highs >= 0)).all():
        raise CardError(f"observation {spec.name}: history_start: zeros lie outside the bounds; widen these to take 0")
    shape, choices = (spec.shape[0] // ticks, *spec.shape[1:]), spec.choices
    if isinstance(choices, tuple) and len(shape) == 1:
        choices = choices[-shape[0] :]
    low = _frame_bound(spec.low, spec.lows, spec.shape, ticks, np.max)
    high = _frame_bound(spec.high, spec.highs, spec.shape, ticks, np.min)
    try:
        return dataclasses.replace(spec, shape=shape, low=low, high=high, seen=None, choices=choices)
    except CardError as error:
        raise CardError(f"{error}; with a history, the bounds of all ticks have to overlap") from error


def _frame_bound(
    bound: Bound, values: Array, shape: tuple[int, ...], ticks: int, narrowest: Callable[..., Array]
) -> Bound:
    if not isinstance(bound, tuple) or (len(shape) > 1 and not any(isinstance(each, tuple) for each in bound)):
        return bound  # the same along the first axis, on which frames are joined
    frames = np.broadcast_to(values, shape).reshape(ticks, -1, *shape[1:])
    common: tuple[Any, ...] = _as_tuples(narrowest(frames, axis=0).tolist())
    return common


def _as_tuples(value: Any) -> Any:
    return tuple(_as_tuples(each) for each in value) if isinstance(value, list) else value


def takes_frame(wanted: tuple[int, ...], given: tuple[int, ...], with_history: bool) -> bool:
    """Whether values of one shape are frames of another: where frames have the shape [1], a number is one, too."""
    return given == wanted or (with_history and (given or (1,)) == wanted)
