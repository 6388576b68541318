"""What a policy answers, the same from the local engine and from a remote server."""

from __future__ import annotations

import msgspec
import numpy as np
from numpy.typing import NDArray

Float32 = NDArray[np.float32]


class Actions(msgspec.Struct, frozen=True, eq=False):
    """What the policy does with a batch. (A msgspec struct: made in a tenth of a dataclass's time.)

    Attributes:
        control: throttle, brake, steer; float32 (B, 3).
        raw: what the head gave, in the card's order; float32 (B, A).
        distribution: the head's parameters by name, each float32 (B, A), or (B, K) for logits.
        seed: what a sampled batch was drawn with; None in deterministic mode.
        check_ms: time to take and check the observations, milliseconds.
        inference_ms: time in the graph.
        control_ms: time to check, sample and turn into control what the graph gave.
        fallback: whether these are the card's fallback, since no answer came in time; `raw` then has no rows.
    """

    control: Float32
    raw: Float32
    distribution: dict[str, Float32] = {}
    seed: int | None = None
    check_ms: float = 0.0
    inference_ms: float = 0.0
    control_ms: float = 0.0
    fallback: bool = False
