"""The bounds: against published figures, against exact ones, and how often they are wrong, enumerated."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.gates import chance_of
from registry.gates.intervals import least_episodes, mean_bound, rate_bound, sign_chance

Z_TWO_SIDED = 1.959963984540054
counts = st.tuples(st.integers(60, 400), st.integers(0, 60), st.integers(0, 60)).filter(lambda c: c[1] + c[2] <= c[0])


def test_tangos_interval_is_that_of_the_literature():
    """Bentur's data in Fagerland, Lydersen and Laake (Statistics in Medicine 33, 2014); R's ratesci prints the same."""
    assert rate_bound(1, 7, 21, Z_TWO_SIDED) == pytest.approx(-0.026003, abs=1e-6)
    assert -rate_bound(7, 1, 21, Z_TWO_SIDED) == pytest.approx(-0.517232, abs=1e-6)


@given(counts)
def test_tangos_bound_is_a_root_of_its_quartic(drawn: tuple[int, int, int]):
    """The equation of Yang, Sun and Hardin (Statistics in Medicine 32, 2013), which is solved without iteration."""
    n, worse, better = drawn
    if not better:
        return  # the exact bound
    g, d = 1.6448536269514722**2, worse - better
    quartic = [
        n**2 * (n / g + 1) ** 2,
        -n * d * (n / g + 1) * (4 * n / g + 1),
        2 * n * d**2 * (3 * n / g + 2) / g - n**2 * ((worse + better) / g + 1),
        n * d * (2 * (worse + better) / g + 1) - d**3 * (4 * n / g + 1) / g,
        d**2 * (d**2 / g - (worse + better)) / g,
    ]
    assert min(abs(np.roots(quartic) - rate_bound(worse, better, n))) < 1e-6


@pytest.mark.parametrize(("episodes", "bound"), [(20, 0.1391), (59, 0.0495), (60, 0.0487), (400, 0.0075)])
def test_where_no_episodes_disagree_the_bound_is_the_exact_one(episodes: int, bound: float):
    exact = 1 - 0.05 ** (1 / episodes)
    assert rate_bound(0, 0, episodes) == pytest.approx(exact)
    assert exact == pytest.approx(bound, abs=5e-5)
    [of_numbers] = mean_bound(np.zeros((1, episodes)), np.ones(1))
    assert exact <= of_numbers <= exact * 1.001


def test_the_bound_is_a_share_also_where_all_fail_or_none():
    assert rate_bound(60, 0, 60) == 1.0
    assert 0.99 < rate_bound(59, 0, 60) < 1.0
    assert -1.0 < rate_bound(0, 60, 60) < -0.9
    assert rate_bound(30, 30, 60) == pytest.approx(1.645 * 60**0.5 / 60, abs=0.01)


def test_the_least_number_of_episodes_is_what_the_exact_bound_demands():
    assert [least_episodes(margin) for margin in (0.05, 0.02)] == [59, 149]
    assert rate_bound(0, 0, 59) <= 0.05 < rate_bound(0, 0, 58)


@given(counts)
def test_another_failure_never_helps(drawn: tuple[int, int, int]):
    n, worse, better = drawn
    if worse + better < n:
        assert rate_bound(worse + 1, better, n) > rate_bound(worse, better, n)
    if better:
        assert rate_bound(worse, better - 1, n) > rate_bound(worse, better, n)


@pytest.mark.parametrize("failing", [0.0, 0.01, 0.02, 0.05, 0.1])
@pytest.mark.parametrize("episodes", [60, 76, 87, 100, 118, 147, 200, 400])
def test_a_policy_that_is_worse_by_the_margin_passes_in_one_case_of_twenty(failing: float, episodes: int):
    """Enumerated, for every share of the champion's failures that the candidate has in common."""
    for alone in np.linspace(0.0, failing, 11):
        assert chance_of(episodes, alone + 0.05, alone) <= (0.055 if alone else 0.05)


def test_the_bound_of_a_mean_of_zeros_and_ones_is_clopper_and_pearsons():
    values = np.zeros((1, 60))
    values[0, :3] = 1
    [bound] = mean_bound(values, np.ones(1))
    at_most_3 = sum(math.comb(60, k) * bound**k * (1 - bound) ** (60 - k) for k in range(4))
    assert at_most_3 == pytest.approx(0.05, abs=0.003)


@pytest.mark.parametrize("name", ["rare", "skewed", "even"])
def test_the_bound_of_a_mean_is_wrong_in_one_case_of_twenty_at_most(name: str):
    rng, shape = np.random.default_rng(1), (400, 60)
    losses, mean = {
        "rare": (np.where(rng.random(shape) < 0.05, 1.0, 0.0), 0.05),
        "skewed": (np.minimum(rng.lognormal(0, 1.5, shape), 100), math.exp(1.125)),
        "even": (rng.random(shape), 0.5),
    }[name]
    most = np.full(len(losses), 100.0 if name == "skewed" else 1.0)
    missed = float(np.mean(mean_bound(losses, most) < mean))
    assert missed <= 0.05 + 2.6 * math.sqrt(0.05 * 0.95 / len(losses))


def test_more_of_the_same_numbers_bounds_their_mean_more_closely():
    values = np.random.default_rng(2).normal(0, 1, (1, 60))
    once, four_times = (mean_bound(values, np.array([3.0]), times)[0] for times in (1.0, 4.0))
    assert values.mean() < four_times < once


def test_the_chance_of_few_among_those_that_disagree_is_that_of_a_coin():
    assert sign_chance(0, 5) == 1 / 32
    assert sign_chance(1, 8) == 10 / 512
    assert sign_chance(0, 0) == 1.0
