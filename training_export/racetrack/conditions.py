"""Under what an evaluation or a drive takes place: the same conditions give the same episodes."""

from __future__ import annotations

from dataclasses import dataclass

FIRST_SEED = 10_000
"""Of an evaluation, unless another is asked for."""
TRAINING_SEEDS, SCALER_SEEDS, GOLDEN_SEEDS = 1 << 32, 2 << 32, 3 << 32
"""Where the seeds of what is no evaluation begin. An evaluation's lie below 2**32, since the commands take
no --first-seed from 2**31 on: whatever seeds are asked for, nothing is judged on an episode that taught it."""


@dataclass(frozen=True)
class Conditions:
    """Which seeds, how many other cars at most, and how long an episode lasts."""

    episodes: int = 60  # what the gates of a promotion ask for at least
    first_seed: int = FIRST_SEED
    traffic: int = 0
    duration_s: float = 30.0

    @property
    def seeds(self) -> range:
        return range(self.first_seed, self.first_seed + self.episodes)
