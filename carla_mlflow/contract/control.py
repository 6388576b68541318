"""Converts raw actions to what a policy answers, and back.

Most policies answer carla.VehicleControl's values: throttle and brake in [0, 1], steer in [-1, 1]. One that decides
only how fast to go answers an acceleration in [-1, 1] (1: full throttle, -1: full brake), one that only steers answers
steer alone, and with `control: named` the raw action is answered as it is, under its own names.

The card's `full_throttle`, `full_brake` and `full_right` are the raw values that mean throttle 1, brake 1 and steer 1.
A raw 0 means control 0; in between, the control is the raw value divided by that full value.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from msgspec import UNSET, UnsetType
from numpy.typing import NDArray

from .action_card import ActionCard
from .control_kinds import CONTROL_HIGH, CONTROL_LOW, CONTROL_NAMES, NAMED

Array = NDArray[np.float32]

ZERO = np.float32(0)

FULL_KEYS = ("full_throttle", "full_brake", "full_right")
"""The card's keys for the raw values that mean throttle 1, brake 1, steer 1, in the order of CONTROL_NAMES."""
_FROM: dict[str, dict[str, str]] = {
    "acceleration_steer": dict(zip(FULL_KEYS, ("acceleration", "acceleration", "steer"), strict=True)),
    "throttle_brake_steer": dict(zip(FULL_KEYS, CONTROL_NAMES, strict=True)),
    "acceleration": dict.fromkeys(FULL_KEYS[:2], "acceleration"),
    "steer": {FULL_KEYS[2]: "steer"},
}
"""For each kind of control, the keys of FULL_KEYS that it needs, and the raw dimension that each of them scales."""
USUAL_BOUNDS = {"acceleration": (-1.0, 1.0), "throttle": (0.0, 1.0), "brake": (0.0, 1.0), "steer": (-1.0, 1.0)}
"""The usual bounds of raw dimensions, which the defaults of FULL_KEYS fit."""


def controller(action: ActionCard) -> Callable[[Array], Array]:
    """Makes the function that turns a policy's raw actions into what it answers, such as throttle, brake and steer.

    Args:
        action: the card's section. `acceleration_steer`: an acceleration towards `full_throttle` is throttle, one
            towards `full_brake` is brake. `throttle_brake_steer`: each from its own raw value. `table`: the row of
            `action.table` whose index is `choice`. `acceleration`: throttle - brake, of which one is 0. `steer`:
            steer alone. `named`: the raw action.

    Returns:
        A function of finite float32 (B, A) that gives float32 (B, C), by `action.control_names` and inside
        `answer_columns(action)`'s bounds.
    """
    names = tuple(action.raw)
    if action.table is not None:
        table = _table(action)
        return lambda raw: table[raw[:, 0].astype(np.intp)]
    if action.control == NAMED:
        return lambda raw: np.asarray(raw + ZERO)  # turns -0.0 into 0.0
    columns = np.array([names.index(name) for name in _FROM[action.control].values()])
    places = _places(action)
    full = _full(action)[:, None]
    ends = np.stack([full * CONTROL_LOW[places, None], full * CONTROL_HIGH[places, None]])
    low, high = ends.min(axis=0), ends.max(axis=0)

    def to_control(raw: Array) -> Array:
        control = raw.T.take(columns, axis=0)  # dimension first: numpy's loops then run along the rows
        np.maximum(control, low, out=control)  # before the division, which then can't overflow
        np.minimum(control, high, out=control)
        control /= full  # not times 1 / full, which rounds twice; dividing by ±1 is exact
        control += ZERO  # turns -0.0, which JSON would show, into 0.0
        return control.T

    if action.control == "acceleration":
        return lambda raw: np.asarray(np.subtract(*to_control(raw).T))[:, None]
    return to_control


def inverse_controller(action: ActionCard) -> Callable[[Array], Array]:
    """Makes the function that turns what a policy answers into the raw action that an environment takes.

    Args:
        action: the card's section. `acceleration_steer`: the accelerations of throttle and brake are added.
            `table`: the choice with the nearest row, the first of equally near ones.

    Returns:
        A function of float32 (B, C), by `action.control_names` and inside their bounds, that gives float32 (B, A),
        clipped to the raw bounds.
    """
    if action.table is not None:
        table = _table(action)

        def to_choice(control: Array) -> Array:
            apart = np.square(control[:, None, :] - table[None]).sum(axis=2)
            return np.asarray(apart.argmin(axis=1), dtype=np.float32)[:, None]

        return to_choice
    low, high = action.bounds
    if action.control == NAMED:
        return lambda control: np.asarray(np.clip(control, low, high), dtype=np.float32)
    names, full = tuple(action.raw), _full(action)
    columns = [names.index(name) for name in _FROM[action.control].values()]

    def to_raw(control: Array) -> Array:
        if action.control == "acceleration":
            control = np.concatenate([np.maximum(control, 0), np.maximum(-control, 0)], axis=1)
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
        needed = [key for key, source in _FROM[action.control].items() if source == name]
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
    if action.control == NAMED:
        return "as the environment takes it"
    if action.control not in _FROM:
        return "a row of the card's table"
    rows = [(*row, value) for row, value in zip(_FROM[action.control].items(), _full(action), strict=True)]
    return ", ".join(f"{key.replace('_', ' ')} at {value:g}" for key, source, value in rows if source == name)


def scale_problems(action: ActionCard) -> Iterator[str]:
    """What is wrong with the card's FULL_KEYS, in words."""
    stated = {key: value for key in FULL_KEYS if not isinstance(value := getattr(action, key), UnsetType)}
    if action.control not in _FROM:
        yield from (f"action.{key}: control: {action.control} has no raw value to scale" for key in stated)
        return
    needless = [key for key in stated if key not in _FROM[action.control]]
    yield from (f"action.{key}: control: {action.control} does not decide that" for key in needless)
    with np.errstate(over="ignore"):
        odd = [key for key, value in stated.items() if not np.isfinite(np.float32(value)) or np.float32(value) == 0]
    yield from (f"action.{key}: expected a finite float32 other than 0" for key in odd)
    if odd or not stated:
        return
    full = _full(action)
    if action.control in ("acceleration_steer", "acceleration"):
        if (full[0] > 0) == (full[1] > 0):
            yield (
                f"action: full_throttle {full[0]:g} and full_brake {full[1]:g} have the same sign; an acceleration "
                "means throttle on one side of 0 and brake on the other"
            )
        return
    if action.control == "steer":
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
        for key, name in _FROM[action.control].items():
            if stated[key] == _default(name, key) and tuple(action.raw[name]) == USUAL_BOUNDS[name]:
                stated[key] = UNSET
    return stated


def _full(action: ActionCard) -> Array:
    """The keys of FULL_KEYS that the control needs, with their defaults: float32 (3,), or fewer without pedals."""
    rows = [(getattr(action, key), _default(name, key)) for key, name in _FROM[action.control].items()]
    return np.array([default if value is UNSET else value for value, default in rows], dtype=np.float32)


def _default(name: str, key: str) -> float:
    """The value of a key of FULL_KEYS that the card leaves unset."""
    return -1.0 if (name, key) == ("acceleration", "full_brake") else 1.0


def _places(action: ActionCard) -> list[int]:
    """The places in CONTROL_NAMES of what the control's keys of FULL_KEYS scale."""
    return [FULL_KEYS.index(key) for key in _FROM[action.control]]


def _table(action: ActionCard) -> Array:
    rows = [[entry.throttle, entry.brake, entry.steer] for entry in action.table or ()]
    return np.array(rows, dtype=np.float32)
