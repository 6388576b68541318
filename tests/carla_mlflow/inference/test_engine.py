from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from carla_mlflow import Engine, open_artifact
from carla_mlflow.artifact.artifact import seal
from carla_mlflow.contract.backend_names import BACKENDS
from carla_mlflow.errors import ActionError, SpecError
from carla_mlflow.inference.backend_choice import fastest, load_fastest
from carla_mlflow.inference.batch_shapes import plan

ROWS = 300


@pytest.fixture(scope="module", params=BACKENDS)
def engine(request: pytest.FixtureRequest, example: Path) -> Engine:
    return Engine.open(example, device="cpu", backend=request.param)


@pytest.fixture(scope="module")
def observations(example: Path) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(1)
    return {spec.name: spec.sample(rng, ROWS) for spec in open_artifact(example).card.observation_spec}


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


def test_a_first_field_without_rows_is_refused_by_name(engine, observations):
    with pytest.raises(SpecError, match="speed 0"):
        engine.act({**observations, "speed": observations["speed"][:0]})


def test_a_refused_batch_costs_no_new_buffers(engine, observations):
    engine.act(observations)
    before = {shape: len(idle) for shape, idle in engine._runner._idle.items()}
    for _ in range(3):
        with pytest.raises(SpecError):
            engine.act({**observations, "speed": observations["speed"] + 1e3})
    assert {shape: len(idle) for shape, idle in engine._runner._idle.items()} == before


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


def inside(spec):
    bounds = {"min_value": float(spec.lows), "max_value": float(spec.highs)}
    return arrays(np.float32, (3, *spec.shape), elements=st.floats(width=32, **bounds))


@settings(deadline=None, max_examples=100)
@given(st.data())
def test_any_observation_inside_the_spec_gives_a_finite_action_inside_the_control_bounds(engine, data):
    batch = {spec.name: data.draw(inside(spec), label=spec.name) for spec in engine.specs}
    control = engine.act(batch).control
    assert np.isfinite(control).all()
    assert ((control >= [0, 0, -1]) & (control <= [1, 1, 1])).all()


anything = st.floats(width=32, allow_nan=True, allow_infinity=True)


@settings(deadline=None, max_examples=100)
@given(st.data())
def test_any_observation_outside_is_refused_naming_row_field_bound_and_value(engine, data):
    spec = data.draw(st.sampled_from(list(engine.specs)))
    value = data.draw(anything.filter(lambda v: not spec.lows <= v <= spec.highs))
    row = data.draw(st.integers(0, 2))
    batch = {s.name: np.zeros((3, *s.shape), np.float32) for s in engine.specs}
    batch[spec.name][row : row + 1].reshape(-1)[-1] = value
    with pytest.raises(SpecError) as caught:
        engine.act(batch)
    place = "".join(f"[{size - 1}]" for size in spec.shape)
    assert caught.value.field == f"observations[{row}].{spec.name}{place}"
    wanted = f"{value:.6g} is outside [{spec.lows:.6g}, {spec.highs:.6g}]" if np.isfinite(value) else "is not a finite"
    assert wanted in caught.value.problem


def test_every_backend_gives_the_same_action_within_the_tolerance(example: Path, observations):
    engines = [Engine.open(example, device="cpu", backend=backend) for backend in BACKENDS]
    first, *others = (engine.act(observations).raw for engine in engines)
    for other in others:
        np.testing.assert_allclose(other, first, rtol=1e-5, atol=2e-6)


def test_a_policy_without_a_number_is_refused_and_counted(example: Path):
    artifact = open_artifact(example)
    engine = Engine(artifact, "cpu")
    one = {name: array[:1] for name, array in engine.golden.observations.items()}
    engine._output_check._low[:] = 2.0  # bounds that this policy does not keep
    with pytest.raises(ActionError, match="row 0"):
        engine.act(one)
    assert engine.unusable_actions == 1


def test_memory_that_runs_out_splits_the_batch_and_keeps_the_bits(example: Path, observations):
    engine = Engine.open(example, device="cpu", backend="torchscript")
    whole = bits(engine, observations, list(range(ROWS)))
    tiles = engine._runner
    most = 20

    class Short:
        """The real bound graph on a device with room for few rows."""

        def __init__(self, bound, rows: int) -> None:
            self.bound, self.rows = bound, rows

        def run(self):
            if self.rows > most:
                raise torch.OutOfMemoryError(f"no room for {self.rows} rows")
            return self.bound.run()

    for workspaces in tiles._idle.values():
        for workspace in workspaces:
            workspace._bound = Short(workspace._bound, workspace.rows)
    assert bits(engine, observations, list(range(ROWS))) == whole
    assert max(engine.tile_rows) <= most


def test_not_strict_is_one_call_a_batch_within_the_tolerance(example: Path, observations):
    free = Engine.open(example, device="cpu", backend="torchscript", strict=False)
    strict = Engine.open(example, device="cpu", backend="torchscript")
    assert free.tile_rows == ()
    np.testing.assert_allclose(free.act(observations).raw, strict.act(observations).raw, rtol=1e-5, atol=1e-6)


def test_auto_takes_the_faster_backend_and_tells_its_figures(example: Path):
    engine, figures = load_fastest(open_artifact(example), "cpu")
    assert set(figures) == {"torchscript", "onnx"}
    assert {name for told in figures.values() for name in told} == {"1_rows_ms", "32_rows_ms"}
    assert engine.backend == "onnx"  # for so small a network ONNX Runtime's call costs half of TorchScript's


def test_the_faster_backend_is_chosen_and_a_tie_is_the_cards():
    assert fastest({"torchscript": {1: 2.0, 32: 8.0}, "onnx": {1: 1.0, 32: 8.0}}) == "onnx"
    assert fastest({"torchscript": {1: 2.0, 32: 2.0}, "onnx": {1: 1.0, 32: 8.0}}, "torchscript") == "torchscript"
    tie = {"torchscript": {1: 1.02, 32: 1.02}, "onnx": {1: 1.0, 32: 1.0}}
    assert fastest(tie, "torchscript") == "torchscript"
    assert fastest(tie, "onnx") == fastest(tie) == "onnx"


def test_auto_leaves_out_a_backend_that_is_not_in_parity(example: Path):
    artifact = open_artifact(example)
    files = {name: artifact.files[name] for name in artifact.card.files}
    torn = seal(artifact.card, files | {"model.onnx": b"torn"})
    engine, figures = load_fastest(torn, "cpu")
    assert engine.backend == "torchscript"
    assert "not an ONNX model" in figures["onnx"]


@pytest.mark.parametrize(
    ("shapes", "rows", "tiles"),
    [
        ((1, 4, 8, 16, 32, 64, 128, 256), 1, (1,)),
        ((4, 8, 16, 32), 1, (4,)),
        ((1, 4, 8, 16, 32, 64, 128, 256), 300, (256, 64)),
        ((1, 4, 8), 21, (8, 8, 8)),
        ((1,), 3, (1, 1, 1)),
        ((8,), 3, (8,)),
    ],
)
def test_a_batch_is_laid_out_in_few_tiles(shapes, rows, tiles):
    assert plan(shapes, rows) == tiles


def test_the_callers_arrays_are_left_as_they_were(engine, observations):
    before = {name: array.copy() for name, array in observations.items()}
    engine.act(observations)
    assert all((before[name] == observations[name]).all() for name in before)
