"""Converts raw actions to carla.VehicleControl's values (throttle and brake in [0, 1], steer in [-1, 1]), and back.

The card's `full_throttle`, `full_brake` and `full_right` are the raw values that mean throttle 1, brake 1 and steer 1.
A raw 0 means control 0; in between, the control is the raw value divided by that full value.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import numpy as np
from msgspec import UNSET, UnsetType
from numpy.typing import NDArray

if TYPE_CHECKING:
    from .card_sections import ActionCard

Array = NDArray[np.float32]

CONTROL_NAMES = ("throttle", "brake", "steer")
CONTROL_LOW = np.array([0.0, 0.0, -1.0], dtype=np.float32)
CONTROL_HIGH = np.array([1.0, 1.0, 1.0], dtype=np.float32)
ZERO = np.float32(0)

RAW_NAMES = {
    "acceleration_steer": ("acceleration", "steer"),
    "throttle_brake_steer": ("throttle", "brake", "steer"),
    "table": ("choice",),
}
"""For each kind of control, the raw dimensions it needs; their order is the card's."""

FULL_KEYS = ("full_throttle", "full_brake", "full_right")
"""The card's keys for the raw values that mean throttle 1, brake 1, steer 1, in the order of CONTROL_NAMES."""
_FROM = {"acceleration_steer": ("acceleration", "acceleration", "steer"), "throttle_brake_steer": CONTROL_NAMES}
"""The raw dimension from which each of CONTROL_NAMES is computed."""
_DEFAULTS = {"acceleration_steer": (1.0, -1.0, 1.0), "throttle_brake_steer": (1.0, 1.0, 1.0)}
"""The values of FULL_KEYS that the card leaves unset."""
USUAL_BOUNDS = {"acceleration": (-1.0, 1.0), "throttle": (0.0, 1.0), "brake": (0.0, 1.0), "steer": (-1.0, 1.0)}
"""The usual bounds of raw dimensions, which the defaults of FULL_KEYS fit."""


def controller(action: ActionCard) -> Callable[[Array], Array]:
    """Makes the function that turns a policy's raw actions into throttle, brake and steer.

    Args:
        action: the card's section. `acceleration_steer`: an acceleration towards `full_throttle` is throttle, one
            towards `full_brake` is brake. `throttle_brake_steer`: each from its own raw value. `table`: the row of
            `action.table` whose index is `choice`.

    Returns:
        A function of finite float32 (B, A) that gives float32 (B, 3), inside [0, 1] × [0, 1] × [-1, 1].
    """
    names = tuple(action.raw)
    if action.table is not None:
        table = _table(action)
        return lambda raw: table[raw[:, 0].astype(np.intp)]
    columns = np.array([names.index(name) for name in _FROM[action.control]])
    full = _full(action)[:, None]
    ends = np.stack([full * CONTROL_LOW[:, None], full * CONTROL_HIGH[:, None]])
    low, high = ends.min(axis=0), ends.max(axis=0)

    def to_control(raw: Array) -> Array:
        control = raw.T.take(columns, axis=0)  # dimension first: numpy's loops then run along the rows
        np.maximum(control, low, out=control)  # before the division, which then can't overflow
        np.minimum(control, high, out=control)
        control /= full  # not times 1 / full, which rounds twice; dividing by ±1 is exact
        control += ZERO  # turns -0.0, which JSON would show, into 0.0
        return control.T

    return to_control


def inverse_controller(action: ActionCard) -> Callable[[Array], Array]:
    """Makes the function that turns throttle, brake and steer into the raw action that an environment takes.

    Args:
        action: the card's section. `acceleration_steer`: the accelerations of throttle and brake are added.
            `table`: the choice with the nearest row, the first of equally near ones.

    Returns:
        A function of float32 (B, 3), inside [0, 1] × [0, 1] × [-1, 1], that gives float32 (B, A), clipped to the raw
        bounds.
    """
    if action.table is not None:
        table = _table(action)

        def to_choice(control: Array) -> Array:
            apart = np.square(control[:, None, :] - table[None]).sum(axis=2)
            return np.asarray(apart.argmin(axis=1), dtype=np.float32)[:, None]

        return to_choice
    names, full = tuple(action.raw), _full(action)
    columns = [names.index(name) for name in _FROM[action.control]]
    low, high = action.bounds

    def to_raw(control: Array) -> Array:
        raw = np.zeros((len(control), len(names)), dtype=np.float32)
        for place, column in enumerate(columns):
            raw[:, column] += control[:, place] * full[place]
        return np.asarray(np.clip(raw, low, high), dtype=np.float32)

    return to_raw


def unstated_scales(action: ActionCard) -> list[str]:
    """The raw dimensions with unusual bounds for which the card leaves a key of FULL_KEYS unset, in words."""
    if action.control not in _FROM:
        return []
    unstated = []
    for name, (low, high) in action.raw.items():
        needed = [key for key, source in zip(FULL_KEYS, _FROM[action.control], strict=True) if source == name]
        missing = [key for key in needed if getattr(action, key) is UNSET]
        if missing and (low, high) != USUAL_BOUNDS[name]:
            usual_low, usual_high = USUAL_BOUNDS[name]
            unstated.append(
                f"action.raw.{name} has the bounds [{low:g}, {high:g}], not [{usual_low:g}, {usual_high:g}], and the "
                f"card has no {' and no '.join(missing)} to say which raw value means that control"
            )
    return unstated


def scale_words(action: ActionCard, name: str) -> str:
    """What the values of a raw dimension mean, for people."""
    if action.control not in _FROM:
        return "a row of the card's table"
    rows = zip(FULL_KEYS, _FROM[action.control], _full(action), strict=True)
    return ", ".join(f"{key.replace('_', ' ')} at {value:g}" for key, source, value in rows if source == name)


def scale_problems(action: ActionCard) -> Iterator[str]:
    """What is wrong with the card's FULL_KEYS, in words."""
    stated = {key: value for key in FULL_KEYS if not isinstance(value := getattr(action, key), UnsetType)}
    if action.control not in _FROM:
        yield from (f"action.{key}: control: {action.control} has no raw value to scale" for key in stated)
        return
    with np.errstate(over="ignore"):
        odd = [key for key, value in stated.items() if not np.isfinite(np.float32(value)) or np.float32(value) == 0]
    yield from (f"action.{key}: expected a finite float32 other than 0" for key in odd)
    if odd or not stated:
        return
    full = _full(action)
    if action.control == "acceleration_steer":
        if (full[0] > 0) == (full[1] > 0):
            yield (
                f"action: full_throttle {full[0]:g} and full_brake {full[1]:g} have the same sign; an acceleration "
                "means throttle on one side of 0 and brake on the other"
            )
        return
    for name, key, value in zip(CONTROL_NAMES[:2], FULL_KEYS, full, strict=False):
        low, high = action.raw[name]
        if (high if value > 0 else -low) <= 0:
            yield (
                f"action.{key}: {value:g} lies on the other side of 0 than the bounds of raw.{name}, "
                f"[{low:g}, {high:g}], so no action could mean any {name}"
            )


def without_defaults(action: ActionCard) -> dict[str, float | UnsetType]:
    """FULL_KEYS for a card: unset where the bounds are the usual ones and the value is the default."""
    stated = {key: getattr(action, key) for key in FULL_KEYS}
    if action.control in _FROM:
        rows = zip(FULL_KEYS, _FROM[action.control], _DEFAULTS[action.control], strict=True)
        for key, name, default in rows:
            if stated[key] == default and tuple(action.raw[name]) == USUAL_BOUNDS[name]:
                stated[key] = UNSET
    return stated


def _full(action: ActionCard) -> Array:
    """FULL_KEYS with their defaults, float32 (3,)."""
    stated = [getattr(action, key) for key in FULL_KEYS]
    defaults = _DEFAULTS[action.control]
    return np.array([d if v is UNSET else v for v, d in zip(stated, defaults, strict=True)], dtype=np.float32)


def _table(action: ActionCard) -> Array:
    rows = [[entry.throttle, entry.brake, entry.steer] for entry in action.table or ()]
    return np.array(rows, dtype=np.float32)
