from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from carla_mlflow import Engine
from carla_mlflow.errors import SpecError

ROWS = 300


@pytest.fixture(scope="module")
def engine(example: Path) -> Engine:
    return Engine.open(example, device="cpu")


@pytest.fixture(scope="module")
def observations(engine: Engine) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(1)
    return {spec.name: spec.sample(rng, ROWS) for spec in engine.specs}


@pytest.fixture(scope="module")
def alone(engine: Engine, observations: dict[str, np.ndarray]) -> list[bytes]:
    """The bits of each row's answer when it comes alone."""
    return [bits(engine, observations, [row])[0] for row in range(ROWS)]


def bits(engine: Engine, observations: dict[str, np.ndarray], rows: list[int], **how) -> list[bytes]:
    actions = engine.act({name: array[rows] for name, array in observations.items()}, **how)
    parts = [actions.control, actions.raw, *actions.distribution.values()]
    return [b"".join(part[i].tobytes() for part in parts) for i in range(len(rows))]


@settings(deadline=None, max_examples=60)
@given(st.lists(st.integers(0, ROWS - 1), min_size=1, max_size=300))
def test_a_row_gets_the_same_bits_in_any_company_and_place(engine, observations, alone, rows: list[int]):
    assert bits(engine, observations, rows) == [alone[row] for row in rows]


def test_a_row_gets_the_same_bits_under_concurrent_load(engine, observations, alone):
    wrong = []

    def ask(seed: int) -> None:
        rng = np.random.default_rng(seed)
        for _ in range(100):
            rows = rng.integers(0, ROWS, rng.integers(1, 20)).tolist()
            if bits(engine, observations, rows) != [alone[row] for row in rows]:
                wrong.append(rows)

    threads = [threading.Thread(target=ask, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_the_policy_acts_as_the_trained_policy_did(engine):
    golden = engine.golden
    assert len(golden.raw) >= 64
    actions = engine.act(golden.observations)
    np.testing.assert_allclose(actions.raw, golden.raw, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(actions.control, golden.action, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(actions.distribution["mean"], golden.distribution["mean"], rtol=1e-5, atol=1e-6)


def test_every_action_is_finite_and_inside_its_bounds(engine, observations):
    for how in ({}, {"deterministic": False, "seed": 1}):
        control = engine.act(observations, **how).control
        assert control.dtype == np.float32
        assert np.isfinite(control).all()
        assert (control >= [0, 0, -1]).all()
        assert (control <= [1, 1, 1]).all()
        assert not ((control[:, 0] > 0) & (control[:, 1] > 0)).any()  # never throttle and brake at once


def test_a_sample_depends_on_seed_and_observation_alone(engine, observations):
    whole = bits(engine, observations, list(range(40)), deterministic=False, seed=7)
    for row in (0, 13, 39):
        assert bits(engine, observations, [row], deterministic=False, seed=7) == [whole[row]]
    assert bits(engine, observations, list(range(40))[::-1], deterministic=False, seed=7) == whole[::-1]
    assert bits(engine, observations, list(range(40)), deterministic=False, seed=8) != whole


def test_samples_follow_the_distribution_that_the_policy_gives(engine, observations):
    one = {name: array[:1] for name, array in observations.items()}
    center = engine.act(one).distribution
    drawn = np.concatenate([engine.act(one, deterministic=False, seed=seed).raw for seed in range(4000)])
    expected = np.clip(np.random.default_rng(0).normal(center["mean"], center["std"], (400_000, 2)), -1, 1)
    np.testing.assert_allclose(drawn.mean(axis=0), expected.mean(axis=0), atol=4 * center["std"].max() / 4000**0.5)


def test_a_seed_is_drawn_and_returned_when_none_is_given(engine, observations):
    first = engine.act(observations, deterministic=False)
    again = engine.act(observations, deterministic=False, seed=first.seed)
    assert first.seed is not None
    assert again.raw.tobytes() == first.raw.tobytes()
    assert engine.act(observations).seed is None


@pytest.mark.parametrize("seed", [-1, 2**63, 1.0, True, "7"])
def test_a_seed_that_is_none_is_refused(engine, observations, seed):
    with pytest.raises(SpecError, match="seed"):
        engine.act(observations, deterministic=False, seed=seed)


def test_the_callers_arrays_are_left_as_they_were(engine, observations):
    before = {name: array.copy() for name, array in observations.items()}
    engine.act(observations)
    assert all((before[name] == observations[name]).all() for name in before)
