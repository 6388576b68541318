"""The kinds of control: what raw dimensions each needs, and what it answers."""

from __future__ import annotations

import numpy as np

CONTROL_NAMES = ("throttle", "brake", "steer")
CONTROL_LOW = np.array([0.0, 0.0, -1.0], dtype=np.float32)
CONTROL_HIGH = np.array([1.0, 1.0, 1.0], dtype=np.float32)

RAW_NAMES = {
    "acceleration_steer": ("acceleration", "steer"),
    "throttle_brake_steer": ("throttle", "brake", "steer"),
    "table": ("choice",),
    "acceleration": ("acceleration",),
    "steer": ("steer",),
}
"""For each kind of control but `named`, the raw dimensions it needs; their order is the card's."""
ANSWERED = {"acceleration": ("acceleration",), "steer": ("steer",)}
"""What is answered by the kinds of control that have no pedals; `named` has the names of the card's raw action."""
NAMED = "named"
CONTROLS = (*RAW_NAMES, NAMED)
CHOICE, INDEX = "choice", "index"
"""The name of the only raw dimension of a policy that chooses, and of the number beside a choice that has a label."""
