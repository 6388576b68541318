"""How likely each outcome of some episodes is, and which outcomes a gate lets pass: all enumerated, none drawn."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache

import numpy as np
from numpy.typing import NDArray

from registry.gates.intervals import rate_bound, sign_chance
from registry.gates.margins import RATE_MARGIN
from registry.gates.not_worse import DOUBT

Outcomes = NDArray[np.bool_]
"""Whether an outcome passes, by [only the candidate failed, only the champion failed], in episodes."""


def independent(champion: float, candidate: float) -> tuple[float, float]:
    """The shares of episodes in which only the candidate fails, and in which only the champion fails."""
    return candidate * (1 - champion), champion * (1 - candidate)


def chance_of(episodes: int, worse: float, better: float) -> float:
    """The chance that a candidate passes the gate for failures.

    Args:
        episodes: the number of pairs.
        worse: the share of episodes in which only the candidate fails.
        better: the share in which only the champion fails.
    """
    return chance(not_worse(episodes), worse, better)


@cache
def not_worse(episodes: int) -> Outcomes:
    """Which outcomes pass, by [only the candidate failed, only the champion failed]; more of the first never helps."""
    return _outcomes(episodes, lambda worse, better: rate_bound(worse, better, episodes) <= RATE_MARGIN)


@cache
def unproven(episodes: int) -> Outcomes:
    """Which outcomes do not prove the candidate worse, by the same two counts."""
    return _outcomes(episodes, lambda worse, better: rate_bound(better, worse, episodes) >= 0)


@cache
def safer(episodes: int) -> Outcomes:
    """Which outcomes prove the candidate safer beyond doubt, by the same two counts."""
    return _outcomes(episodes, lambda worse, better: sign_chance(worse, better) <= DOUBT)


def _outcomes(episodes: int, passes: Callable[[int, int], bool]) -> Outcomes:
    found, worse = np.zeros((episodes + 1, episodes + 1), dtype=bool), 0
    for better in range(episodes + 1):  # the more often only the champion failed, the more `worse` may be
        while worse <= episodes - better and passes(worse, better):
            worse += 1
        worse = min(worse, episodes - better + 1)
        found[:worse, better] = True
    return found


def chance(passing: Outcomes, worse: float, better: float) -> float:
    """The chance of any of the passing outcomes, by the trinomial distribution."""
    episodes = len(passing) - 1
    w, b = np.nonzero(passing)
    logs = np.array([math.lgamma(count + 1) for count in range(episodes + 1)])
    counts, shares = (w, b, episodes - w - b), (worse, better, 1 - worse - better)
    terms = logs[episodes] - sum(logs[count] for count in counts)
    for count, share in zip(counts, shares, strict=True):
        terms = terms + (count * math.log(share) if share > 1e-12 else np.where(count > 0, -np.inf, 0.0))
    return float(np.exp(terms).sum())


def at_most(count: int, of: int, share: float) -> float:
    """The chance that at most `count` of `of` decisions are over the bar, when each is with the chance `share`."""
    return sum(math.comb(of, k) * share**k * (1 - share) ** (of - k) for k in range(count + 1))
