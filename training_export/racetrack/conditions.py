"""The conditions of an evaluation or a drive: the same conditions give the same episodes."""

from __future__ import annotations

from dataclasses import dataclass

from carla_mlflow.contract.seeds import CARD_FIRST


@dataclass(frozen=True)
class Conditions:
    """Which seeds, how many other cars at most, and how long an episode lasts.

    Which seeds are for what is told in `carla_mlflow/contract/seeds.py`.
    """

    episodes: int = 60  # the fewest that the gates of a promotion accept
    first_seed: int = CARD_FIRST
    traffic: int = 0
    duration_s: float = 30.0

    @property
    def seeds(self) -> range:
        return range(self.first_seed, self.first_seed + self.episodes)
