"""The conformance kit: what any policy artifact has to hold, whatever network, head or backend is inside.

Run over the project's own architectures by tests/carla_mlflow/inference/test_conformance.py, and over any artifact by

    pytest tests/policy_conformance.py --policy FOLDER [--device cuda]
"""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest

from carla_mlflow import Artifact, Engine, open_artifact
from carla_mlflow.artifact.artifact import seal
from carla_mlflow.errors import IntegrityError, ParityError, SpecError

ROWS, IMAGE_ROWS = 300, 12


class Conformance:
    """Subclasses, or the folder that --policy names, bring the artifact; each check takes it on one backend."""

    @pytest.fixture(scope="class")
    @classmethod
    def policy(cls, request: pytest.FixtureRequest) -> Artifact:
        folder = request.config.getoption("--policy")
        if folder is None:
            pytest.skip("name an artifact with --policy FOLDER")
        return open_artifact(Path(folder))

    @pytest.fixture(scope="class")
    @classmethod
    def trusted(cls) -> tuple[str, ...]:
        return ()

    @pytest.fixture(scope="class", params=["torchscript", "onnx"])
    @classmethod
    def engine(cls, request: pytest.FixtureRequest, policy: Artifact, trusted: tuple[str, ...]) -> Engine:
        if request.param not in policy.backends:
            pytest.skip(f"the artifact holds no graph for {request.param}")
        return Engine(policy, request.config.getoption("--device"), request.param, trusted)

    @pytest.fixture(scope="class")
    @classmethod
    def observations(cls, engine: Engine) -> dict[str, np.ndarray]:
        """Uniform rows, and rows at the bounds."""
        rng = np.random.default_rng(3)
        half = (IMAGE_ROWS if engine.specs.has_image else ROWS) // 2
        return {s.name: np.concatenate([s.sample(rng, half), s.corners(rng, half)]) for s in engine.specs}

    @pytest.fixture(scope="class")
    @classmethod
    def alone(cls, engine: Engine, observations: dict[str, np.ndarray]) -> list[bytes]:
        return [bits(engine, observations, [row])[0] for row in range(count(observations))]

    def test_it_acts_as_the_trained_policy_did(self, engine: Engine):
        assert engine.verify_parity() == engine.parity_difference

    def test_a_row_gets_the_same_bits_in_any_company_and_place(self, engine, observations, alone):
        rng = np.random.default_rng(4)
        sizes = range(1, count(observations) + 1, 1 if not engine.specs.has_image else 3)
        for size in sizes:
            rows = rng.integers(0, count(observations), size).tolist()
            assert bits(engine, observations, rows) == [alone[row] for row in rows], size

    def test_a_row_gets_the_same_bits_under_concurrent_load(self, engine, observations, alone):
        wrong: list[list[int]] = []

        def ask(seed: int) -> None:
            rng = np.random.default_rng(seed)
            for _ in range(4 if engine.specs.has_image else 60):
                rows = rng.integers(0, count(observations), rng.integers(1, 12)).tolist()
                if bits(engine, observations, rows) != [alone[row] for row in rows]:
                    wrong.append(rows)

        threads = [threading.Thread(target=ask, args=(seed,)) for seed in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert wrong == []

    def test_every_action_is_finite_and_inside_its_bounds(self, engine: Engine, observations):
        sampled = {"deterministic": False, "seed": 5}
        low, high = engine.card.action.bounds
        for how in ({}, sampled) if engine.card.action.head != "deterministic" else ({},):
            actions = engine.act(observations, **how)
            assert np.isfinite(actions.control).all()
            assert ((actions.control >= [0, 0, -1]) & (actions.control <= [1, 1, 1])).all()
            assert ((actions.raw >= low) & (actions.raw <= high)).all()
            assert all(np.isfinite(values).all() for values in actions.distribution.values())

    def test_a_sample_depends_on_seed_and_observation_alone(self, engine: Engine, observations):
        if engine.card.action.head == "deterministic":
            with pytest.raises(SpecError, match="no distribution"):
                engine.act(observations, deterministic=False)
            return
        how = {"deterministic": False, "seed": 7}
        order = list(range(min(12, count(observations))))
        together = bits(engine, observations, order, **how)
        assert bits(engine, observations, order[::-1], **how) == together[::-1]
        assert [bits(engine, observations, [row], **how)[0] for row in order] == together
        assert bits(engine, observations, order, deterministic=False, seed=8) != together

    def test_anything_outside_the_spec_is_refused_naming_row_field_bound_and_value(self, engine: Engine, observations):
        rows = min(9, count(observations))
        for spec in engine.specs:
            for bad, text in outside(spec):
                batch = {name: array[:rows].copy() for name, array in observations.items()}
                batch[spec.name][rows - 1 :].reshape(-1)[-1:] = bad
                with pytest.raises(SpecError) as caught:
                    engine.act(batch)
                assert caught.value.field.startswith(f"observations[{rows - 1}].{spec.name}")
                assert text in caught.value.problem
        engine.act({name: array[:rows] for name, array in observations.items()})  # and nothing of it is left behind

    def test_a_wrong_shape_dtype_or_name_is_refused(self, engine: Engine, observations):
        one = {name: array[:1] for name, array in observations.items()}
        for spec in engine.specs:
            with pytest.raises(SpecError, match=spec.name):
                engine.act({**one, spec.name: np.zeros((1, *spec.shape, 2), spec.dtype)})
            with pytest.raises(SpecError, match=spec.name):
                engine.act({name: array for name, array in one.items() if name != spec.name})
        with pytest.raises(SpecError, match="unknown field"):
            engine.act({**one, "surprise": np.zeros(1, np.float32)})
        with pytest.raises(SpecError, match="at least one row"):
            engine.act({name: array[:0] for name, array in one.items()})

    def test_lists_and_arrays_of_any_layout_mean_the_same(self, engine: Engine, observations, alone):
        one = {name: array[:1] for name, array in observations.items()}
        assert bits(engine, {n: np.asfortranarray(a) for n, a in one.items()}, [0]) == alone[:1]
        if not engine.specs.has_image:
            rows = [{name: array[0].tolist() for name, array in one.items()}]
            assert engine.act(rows).raw.tobytes() == engine.act(one).raw.tobytes()

    def test_reversed_and_read_only_arrays_mean_the_same(self, engine: Engine, observations, alone):
        last = {name: array[-4:][::-1] for name, array in observations.items()}
        assert bits(engine, last, [0, 1, 2, 3]) == alone[-1:-5:-1]
        one_by_one = [engine.act({n: a[i : i + 1] for n, a in last.items()}).control.tobytes() for i in range(4)]
        assert one_by_one == [row[:12] for row in alone[-1:-5:-1]]
        frozen = {name: np.frombuffer(a.tobytes(), a.dtype).reshape(a.shape) for name, a in observations.items()}
        assert engine.act(frozen).control.tobytes() == b"".join(row[:12] for row in alone)

    def test_the_callers_arrays_are_left_as_they_were(self, engine: Engine, observations):
        before = {name: array.copy() for name, array in observations.items()}
        engine.act(observations)
        assert all(before[name].tobytes() == observations[name].tobytes() for name in before)

    def test_another_policys_answers_are_told_apart(self, engine: Engine, policy: Artifact, trusted, request):
        golden = engine.golden
        golden.raw[3, 0] += 0.01 if golden.raw[3, 0] <= 0 else -0.01
        files = {name: policy.files[name] for name in policy.card.files} | {policy.card.parity.file: golden.to_bytes()}
        golden.raw[3, 0] = engine.act(golden.observations).raw[3, 0]
        with pytest.raises(ParityError, match="raw of row 3"):
            Engine(seal(policy.card, files), request.config.getoption("--device"), engine.backend, trusted)

    def test_the_pin_is_the_digest_of_the_card(self, policy: Artifact, tmp_path: Path):
        from carla_mlflow import write_artifact

        written = write_artifact(tmp_path / "copy", policy)
        assert open_artifact(tmp_path / "copy", policy.digest).files == written.files
        with pytest.raises(IntegrityError, match="was pinned"):
            open_artifact(tmp_path / "copy", "sha256:" + "0" * 64)


def count(observations: dict[str, np.ndarray]) -> int:
    return len(next(iter(observations.values())))


def bits(engine: Engine, observations: dict[str, np.ndarray], rows: list[int], **how) -> list[bytes]:
    actions = engine.act({name: array[rows] for name, array in observations.items()}, **how)
    parts = [actions.control, actions.raw, *actions.distribution.values()]
    return [b"".join(part[i].tobytes() for part in parts) for i in range(len(rows))]


def outside(spec) -> list[tuple[float, str]]:
    """Values that the spec refuses, and what the refusal has to say."""
    low, high = (
        np.ravel(np.broadcast_to(spec.lows, spec.shape))[-1],
        np.ravel(np.broadcast_to(spec.highs, spec.shape))[-1],
    )
    if spec.dtype == "uint8":
        below = [(low - 1, f"outside [{low:.6g}, {high:.6g}]")] if low > 0 else []
        return below + ([(high + 1, f"outside [{low:.6g}, {high:.6g}]")] if high < 255 else [])
    found = [(np.nan, "nan"), (np.inf, "inf"), (-np.inf, "-inf")]
    with np.errstate(over="ignore"):  # beyond an open bound lies infinity
        beyond = [np.nextafter(low, np.float32(-np.inf)), np.nextafter(high, np.float32(np.inf))]
    return found + [(v, f"{v:.6g} is outside [{low:.6g}, {high:.6g}]") for v in beyond if np.isfinite(v)]


class TestThePolicyOnTheCommandLine(Conformance):
    """What `pytest tests/policy_conformance.py --policy FOLDER` runs."""
