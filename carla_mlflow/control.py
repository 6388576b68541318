"""Raw action → what carla.VehicleControl takes: throttle and brake in [0, 1], steer in [-1, 1]."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]

CONTROL_NAMES = ("throttle", "brake", "steer")
CONTROL_LOW = np.array([0.0, 0.0, -1.0], dtype=np.float32)
CONTROL_HIGH = np.array([1.0, 1.0, 1.0], dtype=np.float32)

RAW_NAMES = {"acceleration_steer": ("acceleration", "steer")}
"""For each kind of control, the raw dimensions it needs; their order is the card's."""


def to_control(kind: str, raw_names: tuple[str, ...], raw: Array) -> Array:
    """Turns raw actions into throttle, brake and steer.

    Args:
        kind: a key of RAW_NAMES.
        raw_names: the name of each raw dimension, in the graph's order.
        raw: float32, shape (B, A), finite.

    Returns:
        float32, shape (B, 3), inside [0, 1] × [0, 1] × [-1, 1]. Acceleration ≥ 0 is throttle, < 0 is brake.
    """
    control = np.empty((len(raw), 3), dtype=np.float32)
    acceleration = raw[:, raw_names.index("acceleration")]
    control[:, 0] = acceleration
    control[:, 1] = -acceleration
    control[:, 2] = raw[:, raw_names.index("steer")]
    np.clip(control, CONTROL_LOW, CONTROL_HIGH, out=control)
    control += 0.0  # turns -0.0, which JSON would show, into 0.0
    return control
