"""The engine of a policy with a memory: nothing is kept here, and the same steps give the same bits."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pytest
from remembering_export import exported_lstm

from carla_mlflow import Engine, ResultCache
from carla_mlflow.contract.actions import Actions
from carla_mlflow.contract.backend_names import BACKENDS
from carla_mlflow.errors import ArtifactError, SpecError

STEPS = 24


def observations(rows: int, seed: int = 0) -> list[dict[str, Any]]:
    """STEPS batches."""
    rng, specs = np.random.default_rng(seed), exported_lstm().engine.specs
    return [{spec.name: spec.sample(rng, rows) for spec in specs} for _ in range(STEPS)]


def bits(actions: Actions, row: int) -> bytes:
    parts = [actions.control, actions.raw, *actions.distribution.values(), *actions.state.values()]
    return b"".join(np.ascontiguousarray(part[row]).tobytes() for part in parts)


def rollout(engine: Engine, batches: list[dict[str, Any]], rows: slice, row: int = 0, **how: Any) -> list[bytes]:
    """One row's bits of each step, among others."""
    state, found = None, []
    for batch in batches:
        actions = engine.act({name: array[rows] for name, array in batch.items()}, state=state, **how)
        state = actions.state
        found.append(bits(actions, row))
    return found


@pytest.mark.parametrize("how", [{}, {"deterministic": False, "seed": 3}])
@pytest.mark.parametrize("backend", BACKENDS)
def test_a_rollout_has_the_same_bits_alone_and_in_a_batch_of_64(backend: str, how: dict[str, Any]):
    engine, batches = exported_lstm().engines[backend], observations(64)
    alone = rollout(engine, batches, slice(41, 42), **how)
    assert rollout(engine, batches, slice(None), 41, **how) == alone
    assert rollout(engine, batches, slice(40, 47), 1, **how) == alone


@pytest.mark.parametrize("backend", BACKENDS)
def test_episodes_side_by_side_in_threads_do_not_mix(backend: str):
    engine, batches = exported_lstm().engines[backend], observations(6)
    alone = [rollout(engine, batches, slice(row, row + 1)) for row in range(6)]
    found: dict[int, list[bytes]] = {}

    def drive(row: int) -> None:
        found[row] = rollout(engine, batches, slice(row, row + 1))

    threads = [threading.Thread(target=drive, args=(row,)) for row in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [found[row] for row in range(6)] == alone


def test_a_rollout_goes_on_in_another_engine_as_in_its_own():
    artifact, batches = exported_lstm().artifact, observations(1)
    engines = [Engine(artifact, "cpu", "onnx"), Engine(artifact, "cpu", "onnx")]
    whole = rollout(engines[0], batches, slice(None))
    state, found = None, []
    for step, batch in enumerate(batches):
        actions = engines[step % 2].act(batch, state=state)
        state = {name: np.frombuffer(a.tobytes(), np.float32).reshape(a.shape) for name, a in actions.state.items()}
        found.append(bits(actions, 0))
    assert found == whole


def test_the_memory_matters_and_reset_forgets_it():
    engine, batches = exported_lstm().engine, observations(2)
    first = engine.act(batches[0])
    forgotten = engine.act(batches[1], state=first.state, reset=np.array([True, False]))
    begun, gone_on = engine.act(batches[1]), engine.act(batches[1], state=first.state)
    assert bits(forgotten, 0) == bits(begun, 0) != bits(gone_on, 0)
    assert bits(forgotten, 1) == bits(gone_on, 1) != bits(begun, 1)


def test_a_sample_depends_on_the_state_and_not_on_how_it_came_about():
    engine, batch = exported_lstm().engine, observations(1)[0]
    memory = engine.card.memory
    assert memory is not None
    how: dict[str, Any] = {"deterministic": False, "seed": 5}
    begun = engine.act(batch, **how)
    assert bits(engine.act(batch, state=memory.initial(1), **how), 0) == bits(begun, 0)
    drawn, state = engine.act(batch, state=begun.state, **how), begun.state
    z = [(a.raw - a.distribution["mean"]) / a.distribution["std"] for a in (begun, drawn)]
    assert not np.allclose(z[0], z[1])
    assert bits(engine.act(batch, state=state, reset=[1], **how), 0) == bits(begun, 0)


def test_late_actions_bring_back_the_state_that_came_in():
    engine, batches = exported_lstm().engine, observations(2)
    state = engine.act(batches[0]).state
    late = engine.act(batches[1], state=state, reset=[False, True], budget_ms=0)
    memory = engine.card.memory
    assert late.fallback
    assert memory is not None
    for name, initial in memory.initial(1).items():
        assert late.state[name][0].tobytes() == state[name][0].tobytes()
        assert late.state[name][1].tobytes() == initial[0].tobytes()


def test_the_callers_state_is_left_as_it_was_and_the_next_is_its_own():
    engine, batches = exported_lstm().engine, observations(3)
    state = engine.act(batches[0]).state
    before = {name: array.tobytes() for name, array in state.items()}
    following = engine.act(batches[1], state=state).state
    kept = {name: array.tobytes() for name, array in following.items()}
    engine.act(batches[2], state=following)
    assert {name: array.tobytes() for name, array in state.items()} == before
    assert {name: array.tobytes() for name, array in following.items()} == kept


def test_an_engine_that_is_not_strict_carries_states_too():
    engine = Engine(exported_lstm().artifact, "cpu", strict=False)
    batches = observations(5)
    state = engine.act(batches[0]).state
    expected = exported_lstm().engine.act(batches[0]).state
    for name, array in expected.items():
        np.testing.assert_allclose(state[name], array, atol=1e-6)


def test_a_policy_without_memory_takes_no_state_and_returns_none(example):
    engine = Engine.open(example)
    batch = engine.golden.observations
    assert engine.act(batch, state={}).state == {}
    for how in ({"state": {"h": np.zeros((64, 4))}}, {"reset": np.ones(64)}):
        with pytest.raises(SpecError, match="no memory"):
            engine.act(batch, **how)


def test_the_result_cache_is_refused():
    with pytest.raises(ArtifactError, match=r"has a memory.*POLICY_RESULT_CACHE=0"):
        ResultCache(exported_lstm().engine, 100)


def test_lists_of_different_lengths_are_no_state_and_no_reset():
    engine = exported_lstm().engine
    batch = observations(2)[0]
    state = engine.act(batch).state
    name = next(iter(state))
    with pytest.raises(SpecError, match=rf"state\.{name}: expected float32\[2, .*\], all rows alike"):
        engine.act(batch, state=state | {name: [[0.0], [0.0, 1.0]]})
    with pytest.raises(SpecError, match="reset: expected 2 values"):
        engine.act(batch, state=state, reset=[[True], [True, False]])


def test_an_array_is_no_state_of_a_policy_without_memory_and_the_empty_one_it_returns_is(example):
    engine = Engine.open(example, device="cpu")
    with pytest.raises(SpecError, match="no memory"):
        engine.act(engine.golden.observations, state=np.zeros((4, 8), np.float32))
    assert engine.act(engine.golden.observations, state=engine.act(engine.golden.observations).state).state == {}
