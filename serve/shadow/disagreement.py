"""When two actions disagree, as the gate `shadow` means it. Pure."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from carla_mlflow.contract.action_card import ActionCard
from carla_mlflow.differences.actions import (
    ACCELERATION,
    Float32,
    brake_against_throttle,
    differences,
    dimensions,
    knows_acceleration,
)

FAR = 0.1
"""Share of a dimension's span from which its values are far apart: of steer 0.2, a tenth of its range."""


def disagreements(action: ActionCard, recorded: Float32, other: Float32) -> NDArray[np.bool_]:
    """In which rows two actions disagree, (B,).

    They do where one brakes and the other accelerates, where another choice is taken, and where any other value, such
    as steer, is far apart. Different strengths of the same pedal are no disagreement.

    Args:
        action: the card's section; both versions answer its columns.
        recorded: actions (B, C), in the order of `ActionCard.control_names`.
        other: likewise.
    """
    found = brake_against_throttle(action, recorded, other)
    apart = differences(action, recorded, other)
    for dimension in dimensions(action):
        if dimension.name != ACCELERATION or not knows_acceleration(action):
            far = 0.5 if dimension.is_choice else FAR * dimension.span
            found |= apart[dimension.name] > far
    return found
