"""Bounds on how much worse one policy is than another, from episodes on the same seeds: one-sided, 95 %. Pure.

    rate_bound   of the difference of two shares of episodes. T. Tango, Equivalence test and confidence interval for the
                 difference in proportions for the paired-sample design (Statistics in Medicine 17, 1998, 891-908).
                 When the other never failed alone, it is at least the exact bound, 1 - 0.05^(1/n) for 0 of n:
                 C. Clopper, E. Pearson, The use of confidence or fiducial limits (Biometrika 26, 1934, 404-413).
    mean_bound   of the mean of numbers with a known maximum. N. Gaffke, Three test statistics for a nonparametric
                 one-sided hypothesis on the mean of a nonnegative variable (Mathematical Methods of Statistics 14,
                 2005, 451-467); E. Learned-Miller, P. S. Thomas, A New Confidence Interval for the Mean of a Bounded
                 Random Variable (arXiv:1905.06208, 2019).
    sign_chance  the exact form of Q. McNemar's test (Psychometrika 12, 1947, 153-157).

`python -m benchmarks.gates` prints their error rates.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

CONFIDENCE = 0.95
_Z = 1.6448536269514722
"""The 95 % quantile of the normal distribution."""
RESAMPLES, SEED = 10_000, 0
"""Enough draws to meet the 5 % to about 0.2 percentage points; the fixed seed makes the result reproducible."""
_AT_ONCE = 2_000_000
"""Drawn weights held in memory at once."""
_HALVINGS = 60


def least_episodes(margin: float) -> int:
    """How many episodes, all with equal outcomes, bring the exact bound within a margin between 0 and 1."""
    return math.ceil(math.log(1 - CONFIDENCE) / math.log1p(-margin))


def rate_bound(worse: float, better: float, episodes: float, z: float = _Z) -> float:
    """The upper bound of how much larger the challenger's share of failing episodes is, between -1 and 1.

    Tango's statistic (worse - better - n d) / sqrt(n (2 q + d (1 - d))) tests a difference d; q is the likeliest share
    of `better` under that d, the larger root of 2 n q² + B q + C = 0 with B = (2 n - worse + better) d - worse - better
    and C = -better d (1 - d). The bound is the d at which the statistic is -z.

    Args:
        worse: episodes in which only the challenger failed.
        better: episodes in which only the other failed.
        episodes: all pairs, n.
        z: quantile of the normal distribution.
    """
    difference = worse - better
    low, high = difference / episodes, 1.0
    for _ in range(_HALVINGS):
        d = (low + high) / 2
        b, c = (2 * episodes - difference) * d - worse - better, -better * d * (1 - d)
        q = (math.sqrt(max(b * b - 8 * episodes * c, 0.0)) - b) / (4 * episodes)
        spread = z * math.sqrt(max(episodes * (2 * q + d * (1 - d)), 0.0))
        low, high = (d, high) if episodes * d - difference < spread else (low, d)
    return max(high, _exact_bound(math.ceil(worse), round(episodes))) if not better and worse < episodes else high


def _exact_bound(count: int, of: int) -> float:
    """Clopper and Pearson's bound: the share at which `count` or fewer of `of` (count < of) have a chance of 5 %."""
    low, high = count / of, 1.0
    for _ in range(_HALVINGS):
        share = (low + high) / 2
        term = at_most = (1 - share) ** of  # 0 by underflow where hundreds are expected: there Tango's bound suffices
        for k in range(count):
            term *= (of - k) / (k + 1) * share / (1 - share)
            at_most += term
        low, high = (share, high) if at_most > 1 - CONFIDENCE else (low, share)
    return high


def mean_bound(
    values: NDArray[np.float64], most: NDArray[np.float64], times: float = 1.0, resamples: int = RESAMPLES
) -> NDArray[np.float64]:
    """Gaffke's upper bound of the mean of the distribution that each row's values were drawn from.

    It is the 95 % quantile of the weighted mean under random weights, uniform over all that sum to 1 (Dirichlet). One
    further value is weighed too, the largest possible one, for what was not seen. For n values of 0 with a maximum of
    1 the bound is the exact one, 1 - 0.05^(1/n). That it covers the mean in 95 % of cases for every distribution is
    conjectured, not proven (Learned-Miller and Thomas); no counterexample is known.

    Args:
        values: shape (rows, n).
        most: the largest possible value of each row, shape (rows,); never taken below the largest of `values`.
        times: gives the bound for this many times as many values like these.
        resamples: how often weights are drawn.

    Returns:
        The bounds, shape (rows,).
    """
    rng, (rows, count) = np.random.default_rng(SEED), values.shape
    ordered = np.sort(values, axis=1).T
    means = np.empty((resamples, rows))
    block = max(1, _AT_ONCE // count)
    for start in range(0, resamples, block):
        weights = rng.standard_gamma(times, (min(block, resamples - start), count))
        means[start : start + block] = weights @ ordered / weights.sum(axis=1, keepdims=True)
    # The further value's weight is distributed as Beta(1, times n); evenly spaced quantiles stand in for draws.
    even = (np.arange(resamples)[:, None] + 0.5) / resamples
    unseen = -np.expm1(np.log(even) / (times * count))
    weighed = unseen * np.maximum(most, ordered[-1]) + (1 - unseen) * means
    return np.asarray(np.quantile(weighed, CONFIDENCE, axis=0, method="higher"))


def sign_chance(worse: int, better: int) -> float:
    """The chance of at most `worse` among `worse + better` unequal episodes, when either way is equally likely."""
    disagree = worse + better
    return float(sum(math.comb(disagree, count) for count in range(worse + 1)) / 2**disagree)
