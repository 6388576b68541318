"""Draws rewards of a champion and a candidate, on which `benchmarks.gates` counts how often the gates are wrong."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from registry.gates.margins import REWARD_MARGIN

WHOLE_REWARD = 280.0
Array = NDArray[np.float64]
Draw = Callable[[np.random.Generator, tuple[int, int]], tuple[Array, Array]]
"""Generator and shape (trials, episodes) → rewards of the champion and of the candidate."""


def drives(failing: float) -> Callable[[np.random.Generator, tuple[int, int]], Array]:
    """Episodes without a failure earn about WHOLE_REWARD, those with one a random part of it."""

    def draw(rng: np.random.Generator, shape: tuple[int, int]) -> Array:
        return WHOLE_REWARD * np.where(rng.random(shape) < failing, rng.random(shape), 1.0) + rng.normal(0, 2, shape)

    return draw


def less(share: float, failing: float = 0.05) -> Draw:
    """The candidate earns less by this share in every episode."""

    def draw(rng: np.random.Generator, shape: tuple[int, int]) -> tuple[Array, Array]:
        champion = drives(failing)(rng, shape)
        return champion, (1 - share) * champion + rng.normal(0, 2, shape)

    return draw


def rare(share: float, failing: float = 0.05) -> Draw:
    """The candidate earns nothing in this share of the episodes, and as much as the champion in the others."""

    def draw(rng: np.random.Generator, shape: tuple[int, int]) -> tuple[Array, Array]:
        champion = drives(failing)(rng, shape)
        return champion, np.where(rng.random(shape) < share, 0.0, champion)

    return draw


def skewed(share: float) -> Draw:
    """The candidate earns less by a log-normal amount: mostly little, sometimes much."""

    def draw(rng: np.random.Generator, shape: tuple[int, int]) -> tuple[Array, Array]:
        champion = drives(0.0)(rng, shape)
        return champion, champion - share * WHOLE_REWARD * rng.lognormal(-0.5, 1.0, shape)

    return draw


def independently(failing: float, share: float = 0.0) -> Draw:
    """Both fail equally often but independently, and the candidate earns less by this share in every episode."""

    def draw(rng: np.random.Generator, shape: tuple[int, int]) -> tuple[Array, Array]:
        return drives(failing)(rng, shape), (1 - share) * drives(failing)(rng, shape)

    return draw


REWARDS: dict[str, Draw] = {
    "no difference: the same policy": rare(0.0),
    "no difference: 5 % fail": independently(0.05),
    "1 % less in every episode": less(0.01),
    "the margin: 5 % less in every episode": less(REWARD_MARGIN),
    "the margin: 5 % less, 10 % fail": independently(0.1, REWARD_MARGIN),
    "the margin: all of it in 5 % of episodes": rare(REWARD_MARGIN),
    "the margin: all of it in 5 %, the champion fails in 10 %": rare(REWARD_MARGIN, 0.1),
    "the margin: mostly little, sometimes much": skewed(REWARD_MARGIN),
    "twice the margin: 10 % less in every episode": less(2 * REWARD_MARGIN),
    "twice the margin: all of it in 10 % of episodes": rare(2 * REWARD_MARGIN),
    "twice the margin: mostly little, sometimes much": skewed(2 * REWARD_MARGIN),
}
