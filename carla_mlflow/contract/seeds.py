"""Which seeds episodes have for what. This is the one place: three disjoint ranges.

| seeds                | what for                                           | who takes them                          |
|----------------------|----------------------------------------------------|-----------------------------------------|
| 0 to 999,999         | a card's own figures, and looking at a policy      | carla-export, `evaluate`, `drive`       |
| 1,000,000 to 2^32-1  | the evidence that a promotion is judged on         | `evaluate --log`                        |
| 2^32 on              | training: its episodes, the scaler, golden rows    | `train`, carla-export                   |

A policy is trained on the last, and chosen by what its card says of the first; that it drives well on those is then no
news. So a promotion is judged on seeds that nobody needs before. The ranges hold in the environment of this project; of
an environment of the author's own only the seed is known that its training began with.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

CARD = range(0, 1_000_000)
PROMOTION = range(CARD.stop, 1 << 32)
TRAINING = range(PROMOTION.stop, 1 << 63)

CARD_FIRST = 10_000
"""The first seed of a card's own figures."""
PROMOTION_FIRST = PROMOTION.start
"""The first seed of evidence, unless somebody names another."""
TRAINING_FIRST, SCALER_FIRST, GOLDEN_FIRST = 1 << 32, 2 << 32, 3 << 32
"""First seeds of training, of fitting the scaler and of golden rows."""
MAX_ENVIRONMENTS = 64
"""The most parallel environments assumed in training; Stable-Baselines3 seeds them with seed, seed + 1 and so on."""


def seeds_of_training(training: Mapping[str, Any]) -> range | None:
    """The seeds that may have begun a training in the author's own environment; None when the card names none.

    Args:
        training: the card's section.
    """
    seed = training.get("seed")
    if not isinstance(seed, int) or isinstance(seed, bool):
        return None
    return range(seed, seed + MAX_ENVIRONMENTS)
