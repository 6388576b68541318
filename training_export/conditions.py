"""Under what an evaluation or a drive takes place: the same conditions give the same episodes."""

from __future__ import annotations

from dataclasses import dataclass

FIRST_SEED = 10_000
"""Training and its scaler take their seeds from other ranges, golden observations from 20,000 on."""


@dataclass(frozen=True)
class Conditions:
    """Which seeds, how many other cars at most, and how long an episode lasts."""

    episodes: int = 20
    first_seed: int = FIRST_SEED
    traffic: int = 0
    duration_s: float = 30.0

    @property
    def seeds(self) -> range:
        return range(self.first_seed, self.first_seed + self.episodes)
