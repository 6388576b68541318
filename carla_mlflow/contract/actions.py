"""A policy's actions, the same type from the local engine and from a remote server."""

from __future__ import annotations

import msgspec
import numpy as np
from numpy.typing import NDArray

Float32 = NDArray[np.float32]


class Actions(msgspec.Struct, frozen=True, eq=False):
    """The actions for one batch. (A msgspec struct: creating one takes a tenth of a dataclass's time.)

    Attributes:
        control: throttle, brake, steer; float32 (B, 3).
        raw: the head's raw actions, in the card's order; float32 (B, A).
        distribution: the head's parameters by name, each float32 (B, A), or (B, K) for logits.
        seed: the seed of a sampled batch; None in deterministic mode.
        check_ms: time to read and check the observations, milliseconds.
        inference_ms: time in the graph, milliseconds.
        control_ms: time to check the graph's outputs, sample, and convert to control, milliseconds.
        fallback: whether these are the card's fallback because no response came in time; `raw` then has no rows.
    """

    control: Float32
    raw: Float32
    distribution: dict[str, Float32] = {}
    seed: int | None = None
    check_ms: float = 0.0
    inference_ms: float = 0.0
    control_ms: float = 0.0
    fallback: bool = False
