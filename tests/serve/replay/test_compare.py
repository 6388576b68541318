"""The comparison of two versions' actions: exact, and the same in whatever order and batches the rows come."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests_support import EXAMPLE
from without_pedals import KINDS

from carla_mlflow import Card
from carla_mlflow.contract.action_card import ActionCard
from carla_mlflow.differences.actions import brake_against_throttle, differences
from carla_mlflow.errors import ContractError
from serve.replay.compare import WORST, Comparison, check_comparable
from serve.replay.moments import Moments
from training_export.sources.draft import complete

PEDALS = Card.load(EXAMPLE).action


def action_of(kind: str) -> ActionCard:
    """The action section of a toy policy without pedals."""
    return complete(KINDS[kind].draft)


def moments(rows: int, first: int = 0) -> Moments:
    places = np.arange(first, first + rows)
    names = [f"r{place}" for place in places]
    return Moments(places * 10**6, [None] * rows, np.full(rows, -1), names, np.zeros(rows, np.int64))


def actions(rows: int, seed: int, step: float = 0.0) -> np.ndarray:
    """Pedals and steering; with a step, values on a grid, so that many rows differ by the same."""
    rng = np.random.default_rng(seed)
    drawn = rng.uniform([0, 0, -1], 1, (rows, 3))
    return (np.round(drawn / step) * step if step else drawn).astype(np.float32)


@settings(max_examples=25)
@given(st.integers(0, 10), st.permutations(range(6)), st.sampled_from([0.0, 0.5]))
def test_the_figures_do_not_depend_on_order_batches_or_processes(seed: int, order: list[int], step: float):
    recorded, other = actions(300, seed, step), actions(300, seed + 1, step)
    whole = Comparison(PEDALS)
    whole.add(recorded, other, moments(300))
    whole.skip("late", 4)
    pieces = [Comparison(PEDALS), Comparison(PEDALS)]
    for number, place in enumerate(order):
        rows = slice(50 * place, 50 * place + 50)
        pieces[number % 2].add(recorded[rows], other[rows], moments(50, 50 * place))
    pieces[0].skip("late", 1)
    pieces[1].skip("late", 3)
    merged = Comparison.from_bytes(PEDALS, pieces[0].to_bytes())
    merged.merge(pieces[1])
    assert msgspec.json.encode(merged.figures()) == msgspec.json.encode(whole.figures())


def test_differences_are_of_steering_and_of_throttle_less_brake():
    recorded = np.array([[0.5, 0.0, 0.25], [0.0, 0.75, 0.0], [0.1, 0.0, 0.0]], np.float32)
    other = np.array([[0.0, 0.5, -0.25], [0.0, 0.75, 0.0], [0.0, 0.05, 0.0]], np.float32)
    apart = differences(PEDALS, recorded, other)
    assert apart["steer"].tolist() == [0.5, 0.0, 0.0]
    assert apart["acceleration"][:2].tolist() == [1.0, 0.0]
    assert brake_against_throttle(PEDALS, recorded, other).tolist() == [True, False, True]
    nearly = np.array([[0.0, 0.04, 0.0]], np.float32)
    assert not brake_against_throttle(PEDALS, np.array([[0.05, 0.0, 0.0]], np.float32), nearly).any()


def test_quantiles_are_rounded_up_by_less_than_one_percent_and_shares_are_exact():
    rng = np.random.default_rng(0)
    apart = rng.exponential(0.1, 5000).clip(0, 1).astype(np.float32)
    recorded, other = np.zeros((2, 5000, 3), np.float32)
    other[:, 2] = apart
    comparison = Comparison(PEDALS)
    comparison.add(recorded, other, moments(5000))
    steer = comparison.figures().dimensions[0]
    for share, found in ((0.5, steer.p50), (0.9, steer.p90), (0.99, steer.p99)):
        exact = float(np.sort(apart)[int(np.ceil(share * 5000)) - 1])
        assert exact <= found <= exact * 1.008
    assert steer.max == apart.max()
    assert steer.mean == pytest.approx(apart.astype(np.float64).mean(), rel=1e-7)
    for level, share in steer.over.items():
        assert share == (apart > float(level)).mean()
    assert sum(rows for _, rows in steer.histogram) == 5000
    assert steer.histogram[0] == (0.0, int((apart == 0).sum()))


def test_the_worst_moments_are_the_largest_differences_and_of_equal_ones_the_earliest():
    recorded, other = np.zeros((2, 60, 3), np.float32)
    other[:, 2] = 0.5
    other[[7, 50], 2] = 1.0
    comparison = Comparison(PEDALS)
    for first in (40, 20, 0):
        rows = slice(first, first + 20)
        comparison.add(recorded[rows], other[rows], moments(20, first))
    worst = comparison.figures().worst
    early = [place for place in range(WORST - 1) if place != 7]
    assert [moment.request for moment in worst] == ["r7", "r50", *(f"r{place}" for place in early)]
    assert worst[0].difference == 0.5
    assert (worst[0].recorded, worst[0].other) == ((0.0, 0.0, 0.0), (0.0, 0.0, 1.0))


def test_equal_actions_are_no_worst_moments_and_minus_zero_has_other_bits():
    recorded, other = np.zeros((2, 3, 3), np.float32)
    other[0, 2] = -0.0
    comparison = Comparison(PEDALS)
    comparison.add(recorded, other, moments(3))
    figures = comparison.figures()
    assert (figures.rows, figures.equal, figures.worst) == (3, 2, [])


def test_of_choices_the_share_that_differs_is_told():
    action = action_of("several")
    recorded = np.array([[0, 0], [1, 1], [2, 0], [2, 1]], np.float32)
    other = np.array([[0, 1], [2, 1], [0, 0], [2, 1]], np.float32)
    comparison = Comparison(action)
    comparison.add(recorded, other, moments(4))
    figures = comparison.figures()
    assert [(d.name, d.is_choice, d.mean) for d in figures.dimensions] == [("gear", True, 0.5), ("lights", True, 0.25)]
    assert figures.brake_against_throttle is None
    assert [moment.request for moment in figures.worst] == ["r0", "r1", "r2"]


def test_values_beyond_one_are_told_in_their_own_units():
    action = action_of("values")
    recorded, other = np.zeros((2, 2, 2), np.float32)
    recorded[0, 0], other[0, 0] = -5.0, 2.5
    comparison = Comparison(action)
    comparison.add(recorded, other, moments(2))
    longitudinal = comparison.figures().dimensions[0]
    assert (longitudinal.name, longitudinal.max, longitudinal.mean) == ("longitudinal", 7.5, 3.75)
    assert longitudinal.histogram[-1] == (10.0, 1)


@pytest.mark.parametrize("kind", ["acceleration", "steer", "labelled", "values"])
def test_only_the_same_columns_and_choices_are_compared(kind: str):
    action = action_of(kind)
    check_comparable(action, action, "mine 0.2.0")
    with pytest.raises(
        ContractError, match=r"mine 0.2.0 can't be compared with what was recorded: it answers throttle"
    ):
        check_comparable(action, PEDALS, "mine 0.2.0")
    with pytest.raises(ContractError, match="it answers choice, but with other choices"):
        check_comparable(action_of("labelled"), action_of("unlabelled"), "it")
