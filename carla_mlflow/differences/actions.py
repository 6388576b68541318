"""By what two policies' actions differ, row by row: steering and acceleration with pedals, else each column."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..contract.action_card import ActionCard
from ..contract.answer import answer_columns
from ..contract.control_kinds import CONTROL_NAMES

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]

ACCELERATION = "acceleration"
OPPOSED = 0.1
"""Brake stands against throttle where one version accelerates, the other brakes, and their accelerations are at least
this far apart: below that, both are coasting."""


class Dimension(NamedTuple):
    """One thing by which actions differ.

    Attributes:
        name: steer, acceleration, or the name of a column of the answer.
        span: the largest possible difference; 1 for a choice, which differs or does not.
        is_choice: whether it is the index of a choice, whose distance means nothing.
    """

    name: str
    span: float
    is_choice: bool = False


def dimensions(action: ActionCard) -> tuple[Dimension, ...]:
    """What actions of such a policy are compared by.

    With pedals: `steer`, and `acceleration`, which is throttle - brake, so that lifting one pedal and pressing the
    other count as one change. Else the columns that the policy answers.
    """
    if action.is_pedals:
        return (Dimension("steer", 2.0), Dimension(ACCELERATION, 2.0))
    columns = answer_columns(action)
    return tuple(Dimension(c.name, 1.0 if c.choices else c.high - c.low, bool(c.choices)) for c in columns)


def differences(action: ActionCard, recorded: Float32, other: Float32) -> dict[str, Float64]:
    """How far two versions' actions are apart, by the names of `dimensions`; 0 or 1 for a choice.

    Args:
        action: the card's section; both versions answer its columns.
        recorded: actions (B, C), in the order of `ActionCard.control_names`.
        other: likewise.

    Returns:
        Each (B,), at least 0.
    """
    before, after = _values(action, recorded), _values(action, other)
    apart = {}
    for dimension in dimensions(action):
        distance = np.abs(after[dimension.name] - before[dimension.name])
        apart[dimension.name] = (distance != 0).astype(np.float64) if dimension.is_choice else distance
    return apart


def brake_against_throttle(action: ActionCard, recorded: Float32, other: Float32) -> NDArray[np.bool_]:
    """In which rows one version brakes and the other accelerates, (B,); see OPPOSED. Nowhere without either."""
    if not knows_acceleration(action):
        return np.zeros(len(recorded), dtype=np.bool_)
    before, after = _values(action, recorded)[ACCELERATION], _values(action, other)[ACCELERATION]
    opposed: NDArray[np.bool_] = (before * after < 0) & (np.abs(after - before) >= OPPOSED)
    return opposed


def knows_acceleration(action: ActionCard) -> bool:
    """Whether the policy's answers say if it brakes or accelerates."""
    return action.is_pedals or action.control == ACCELERATION


def _values(action: ActionCard, control: Float32) -> dict[str, Float64]:
    """The columns by name as float64, in which differences of float32 are exact; pedals as one acceleration."""
    columns = dict(zip(action.control_names, control.T.astype(np.float64), strict=True))
    if action.is_pedals:
        throttle, brake, steer = (columns[name] for name in CONTROL_NAMES)
        return {"steer": steer, ACCELERATION: throttle - brake}
    return columns
