from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from carla_mlflow import Engine
from carla_mlflow.errors import SpecError
from carla_mlflow.inference.result_cache import ResultCache


@pytest.fixture(scope="module")
def engine(example: Path) -> Engine:
    return Engine.open(example, device="cpu")


@pytest.fixture(scope="module")
def observations(engine: Engine) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    return {spec.name: spec.sample(rng, 50) for spec in engine.specs}


def same(one, other) -> bool:
    pairs = [(one.control, other.control), (one.raw, other.raw)]
    pairs += [(one.distribution[name], other.distribution[name]) for name in one.distribution]
    return one.seed == other.seed and all(a.tobytes() == b.tobytes() for a, b in pairs)


@pytest.mark.parametrize("how", [{}, {"deterministic": False, "seed": 3}])
def test_a_cached_answer_is_bit_for_bit_the_engines_own(engine, observations, how):
    cache = ResultCache(engine, 100)
    expected = engine.act(observations, **how)
    assert same(cache.act(observations, **how), expected)
    assert same(cache.act(observations, **how), expected)
    assert (cache.hits, cache.misses) == (50, 50)
    some = {name: array[[7, 7, 3]] for name, array in observations.items()}
    assert same(cache.act(some, **how), engine.act(some, **how))
    assert cache.hits == 53


def test_one_other_bit_or_seed_is_another_answer(engine, observations):
    cache = ResultCache(engine, 100)
    one = {name: array[:1].copy() for name, array in observations.items()}
    cache.act(one, deterministic=False, seed=1)
    cache.act(one, deterministic=False, seed=2)
    cache.act(one)
    one["sensors"][0, 11] = np.nextafter(one["sensors"][0, 11], np.float32(0))
    cache.act(one)
    assert cache.hits == 0


def test_sampling_without_a_seed_is_never_cached(engine, observations):
    cache = ResultCache(engine, 100)
    first, second = (cache.act(observations, deterministic=False) for _ in range(2))
    assert first.seed != second.seed
    assert (cache.hits, cache.misses) == (0, 0)


def test_it_forgets_the_rows_that_were_asked_longest_ago(engine, observations):
    cache = ResultCache(engine, 10)
    for row in range(50):
        cache.act({name: array[row : row + 1] for name, array in observations.items()})
    cache.act({name: array[:1] for name, array in observations.items()})
    assert cache.hits == 0
    cache.act({name: array[45:] for name, array in observations.items()})
    assert cache.hits == 5


@pytest.mark.parametrize("seed", [True, 1.0, -1, "1"])
def test_a_seed_that_is_none_is_refused_even_when_an_equal_one_was_asked(engine, observations, seed):
    cache = ResultCache(engine, 100)
    cache.act(observations, deterministic=False, seed=1)
    with pytest.raises(SpecError, match="seed"):
        cache.act(observations, deterministic=False, seed=seed)


def test_arrays_that_change_while_they_are_asked_spoil_no_answer(engine, observations):
    moving = {name: array.copy() for name, array in observations.items()}

    class Slow:
        """The real engine; the caller uses its arrays for the next observation meanwhile."""

        specs, card = engine.specs, engine.card

        def act(self, *question):
            for array in moving.values():
                array[:] = 0
            return engine.act(*question)

    cache = ResultCache(Slow(), 100)
    assert same(cache.act(moving), engine.act(observations))
    assert same(cache.act(observations), engine.act(observations))
    assert cache.hits == 50


def test_a_bad_row_is_refused_by_its_own_number(engine, observations):
    cache = ResultCache(engine, 100)
    cache.act(observations)
    bad = {name: array.copy() for name, array in observations.items()}
    bad["speed"][31] = 61
    with pytest.raises(SpecError, match=r"observations\[31\]\.speed"):
        cache.act(bad)
