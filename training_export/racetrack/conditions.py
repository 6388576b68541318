"""The conditions of an evaluation or a drive: the same conditions give the same episodes."""

from __future__ import annotations

from dataclasses import dataclass

FIRST_SEED = 10_000
"""The default first seed of an evaluation."""
TRAINING_SEEDS, SCALER_SEEDS, GOLDEN_SEEDS = 1 << 32, 2 << 32, 3 << 32
"""First seeds of training, of fitting the scaler and of golden rows. Those of an evaluation lie below 2**32, since the
commands take no --first-seed from 2**31 on, so no policy is evaluated on an episode that it was trained on."""


@dataclass(frozen=True)
class Conditions:
    """Which seeds, how many other cars at most, and how long an episode lasts."""

    episodes: int = 60  # the fewest that the gates of a promotion accept
    first_seed: int = FIRST_SEED
    traffic: int = 0
    duration_s: float = 30.0

    @property
    def seeds(self) -> range:
        return range(self.first_seed, self.first_seed + self.episodes)
