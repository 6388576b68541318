"""What a policy answers, the same from the local engine and from a remote server."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

Float32 = NDArray[np.float32]


@dataclass(frozen=True)
class Actions:
    """What the policy does with a batch.

    Attributes:
        control: throttle, brake, steer; float32 (B, 3).
        raw: what the head gave, in the card's order; float32 (B, A).
        distribution: the head's parameters by name, each float32 (B, A).
        seed: what a sampled batch was drawn with; None in deterministic mode.
        inference_ms: time in the graph, milliseconds.
    """

    control: Float32
    raw: Float32
    distribution: dict[str, Float32] = field(default_factory=dict)
    seed: int | None = None
    inference_ms: float = 0.0
