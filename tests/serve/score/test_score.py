"""Scoring files of logged drives: the engine's bits, whole or nothing, and going on after a kill."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from patience import PATIENCE_S
from remembering_export import exported_lstm
from tests_support import EXAMPLE, Finished, command_here, run_command

from benchmarks.policies.networks import small_view
from benchmarks.policies.two_policies import write
from carla_mlflow import Engine, open_artifact
from carla_mlflow.contract.state_token import StateTokens, to_text
from carla_mlflow.errors import EpisodeError
from serve.score.run import Scorer, about, score_file
from training_export.export.export import export_policy

NAMES = ["throttle", "brake", "steer"]


@pytest.fixture(scope="module")
def engine() -> Engine:
    return Engine.open(EXAMPLE, device="cpu")


def drives(engine: Engine, rows: int, seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {spec.name: spec.sample(rng, rows) for spec in engine.specs}


def table(observations: dict[str, np.ndarray], **more: Any) -> pa.Table:
    columns = {name: pa.array(array.tolist()) for name, array in observations.items()}
    return pa.table({**columns, **{name: pa.array(values) for name, values in more.items()}})


def score(*flags: str, model: Path = EXAMPLE) -> Finished:
    return command_here("score", "--model", str(model), *flags)


def score_apart(*flags: str) -> Finished:
    """In a process of its own, as a user does."""
    return run_command("python", "-m", "serve", "score", "--model", str(EXAMPLE), *flags)


def scored(path: Path) -> np.ndarray:
    found = pq.read_table(path)
    return np.stack([found[name].to_numpy() for name in NAMES], axis=1)


def test_every_row_gets_the_engines_bits_in_its_place(engine: Engine, tmp_path: Path):
    observations = drives(engine, 150_000)
    pq.write_table(table(observations, drive=np.arange(150_000)), tmp_path / "in.parquet", row_group_size=7_000)
    flags = (
        "--input",
        str(tmp_path / "in.parquet"),
        "--output",
        str(tmp_path / "new" / "out.parquet"),
        "--keep",
        "drive",
    )
    done = score_apart(*flags)
    assert done.code == 0, done.err
    assert "150,000 rows by racetrack-policy 0.1.0" in done.out
    out = tmp_path / "new" / "out.parquet"
    assert scored(out).tobytes() == engine.act(observations).control.tobytes()
    assert pq.read_table(out)["drive"].to_pylist() == list(range(150_000))
    told = pq.read_schema(out).metadata
    assert told[b"policy.digest"].decode() == engine.digest
    assert [path.name for path in out.parent.iterdir()] == ["out.parquet"]


def as_float32(observations: dict[str, np.ndarray]) -> pa.Table:
    sensors = pa.FixedSizeListArray.from_arrays(pa.array(observations["sensors"].ravel()), 12)
    return pa.table({"speed": observations["speed"], "steering": observations["steering"], "sensors": sensors})


def as_bytes(observations: dict[str, np.ndarray]) -> pa.Table:
    sensors = [row.tobytes() for row in observations["sensors"]]
    return pa.table({"sensors": sensors, "speed": observations["speed"], "steering": observations["steering"]})


@pytest.mark.parametrize("form", [table, as_float32, as_bytes], ids=lambda form: form.__name__)
def test_lists_fixed_lists_and_bytes_are_the_same(form: Callable[..., pa.Table], engine: Engine, tmp_path: Path):
    observations = drives(engine, 300)
    pq.write_table(form(observations), tmp_path / "in.parquet")
    done = score("--input", str(tmp_path / "in.parquet"), "--output", str(tmp_path / "out.parquet"))
    assert done.code == 0, done.err
    assert scored(tmp_path / "out.parquet").tobytes() == engine.act(observations).control.tobytes()


def test_images_are_scored_from_lists_and_from_bytes(tmp_path: Path):
    folder = write(export_policy(small_view(), "view", "1.0.0", "").artifact, tmp_path / "view")
    engine = Engine.open(folder, device="cpu")
    observations = drives(engine, 40)
    wanted = engine.act(observations).control.tobytes()
    images = pa.array([row.tobytes() for row in observations["bev"]])
    for number, column in enumerate((pa.array(observations["bev"].tolist()), images)):
        source, output = tmp_path / f"in{number}.parquet", tmp_path / f"out{number}.parquet"
        pq.write_table(pa.table({"bev": column, "state": pa.array(observations["state"].tolist())}), source)
        done = score("--input", str(source), "--output", str(output), model=folder)
        assert done.code == 0, done.err
        assert scored(output).tobytes() == wanted


def spoilt(observations: dict[str, np.ndarray], field: str, row: int, value: Any) -> pa.Table:
    columns = {name: array.tolist() for name, array in observations.items()}
    columns[field][row] = value
    return pa.table({name: pa.array(values) for name, values in columns.items()})


@pytest.mark.parametrize(
    ("field", "value", "complaint"),
    [
        ("speed", 1e9, "row 2500: speed"),
        ("speed", None, "row 2500: speed: expected a number, got null"),
        ("speed", float("nan"), "row 2500: speed"),
        ("sensors", [0.5] * 11, "row 2500: sensors: expected 12 values, got 11"),
        ("sensors", [0.5] * 11 + [None], "row 2500: sensors"),
        ("sensors", None, "row 2500: sensors"),
    ],
)
def test_a_row_that_does_not_fit_is_named_and_nothing_is_written(
    field: str, value: Any, complaint: str, engine: Engine, tmp_path: Path
):
    pq.write_table(spoilt(drives(engine, 3000), field, 2500, value), tmp_path / "in.parquet")
    flags = ("--input", str(tmp_path / "in.parquet"), "--output", str(tmp_path / "out.parquet"))
    done = score(*flags)
    assert done.code == 1
    assert complaint in done.err
    assert not (tmp_path / "out.parquet").exists()
    done = score(*flags, "--skip-invalid")
    assert done.code == 0, done.err
    steer = pq.read_table(tmp_path / "out.parquet")["steer"]
    assert [row for row, value in enumerate(steer.to_pylist()) if value is None] == [2500]


@pytest.mark.parametrize(
    ("columns", "complaint"),
    [
        ({"speed": [1.0]}, "has no column"),
        ({"speed": ["1"], "steering": [0.0], "sensors": [[0.5] * 12]}, "speed: expected numbers, got string"),
        ({"speed": [True], "steering": [0.0], "sensors": [[0.5] * 12]}, "speed: expected numbers, got bool"),
        ({"speed": [1.0], "steering": [0.0], "sensors": [0.5]}, "sensors: expected lists 1 deep"),
    ],
)
def test_columns_that_do_not_fit_are_refused_in_words(columns: dict[str, Any], complaint: str, tmp_path: Path):
    pq.write_table(pa.table(columns), tmp_path / "in.parquet")
    done = score("--input", str(tmp_path / "in.parquet"), "--output", str(tmp_path / "out.parquet"), "--skip-invalid")
    assert (done.code, "Traceback" in done.err) == (1, False)
    assert complaint in done.err


def test_a_logged_column_with_the_name_of_an_action_is_not_lost_but_refused(engine: Engine, tmp_path: Path):
    pq.write_table(table(drives(engine, 3), steer=[0.1, 0.2, 0.3]), tmp_path / "in.parquet")
    done = score("--input", str(tmp_path / "in.parquet"), "--output", str(tmp_path / "out"), "--keep", "steer")
    assert (done.code, done.out) == (1, "")
    assert "--keep steer: the output has columns of these names; rename them in the input first" in done.err


def test_what_is_no_parquet_file_is_said(tmp_path: Path):
    (tmp_path / "in.parquet").write_text("nonsense")
    done = score("--input", str(tmp_path / "in.parquet"), "--output", str(tmp_path / "out.parquet"))
    assert (done.code, "Traceback" in done.err) == (1, False)
    assert "can't be read as Parquet" in done.err
    done = score("--input", str(tmp_path / "none.parquet"), "--output", str(tmp_path / "out.parquet"))
    assert "there is no such file" in done.err
    done = score("--input", str(tmp_path / "in.parquet"), "--output", str(tmp_path / "in.parquet"))
    assert "is the input" in done.err


def test_an_empty_file_gives_an_empty_file(engine: Engine, tmp_path: Path):
    pq.write_table(table(drives(engine, 1)).slice(0, 0), tmp_path / "in.parquet")
    done = score("--input", str(tmp_path / "in.parquet"), "--output", str(tmp_path / "out.parquet"))
    assert done.code == 0, done.err
    assert pq.read_metadata(tmp_path / "out.parquet").num_rows == 0


def test_killed_it_goes_on_where_it_was(engine: Engine, tmp_path: Path):
    observations = drives(engine, 400_000)
    pq.write_table(as_float32(observations), tmp_path / "in.parquet")
    flags = ["--input", str(tmp_path / "in.parquet"), "--output", str(tmp_path / "out.parquet")]
    command = [sys.executable, "-m", "serve", "score", "--model", str(EXAMPLE), *flags]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    parts = tmp_path / ".out.parquet.parts"
    ends = time.monotonic() + PATIENCE_S
    while len(list(parts.glob("*.parquet"))) < 2:
        assert time.monotonic() < ends
        assert process.poll() is None
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "out.parquet").exists()
    before = {path.name: os.stat(path).st_mtime_ns for path in parts.glob("*.parquet")}
    done = score_apart(*flags)
    assert done.code == 0, done.err
    assert len(before) >= 2
    assert scored(tmp_path / "out.parquet").tobytes() == engine.act(observations).control.tobytes()
    assert not parts.exists()


def test_parts_of_another_policy_are_of_no_use(engine: Engine, tmp_path: Path):
    pq.write_table(table(drives(engine, 10)), tmp_path / "in.parquet")
    parts = tmp_path / ".out.parquet.parts"
    parts.mkdir()
    (parts / "about.json").write_text("{}")
    pq.write_table(pa.table({name: pa.array([0.0], pa.float32()) for name in NAMES}), parts / "00000000.parquet")
    done = score("--input", str(tmp_path / "in.parquet"), "--output", str(tmp_path / "out.parquet"))
    assert done.code == 0, done.err
    assert len(scored(tmp_path / "out.parquet")) == 10


def test_another_digest_than_the_pin_scores_nothing(tmp_path: Path, engine: Engine):
    pq.write_table(table(drives(engine, 10)), tmp_path / "in.parquet")
    flags = ("--input", str(tmp_path / "in.parquet"), "--output", str(tmp_path / "out.parquet"))
    assert score(*flags, "--digest", "sha256:" + "0" * 64).code == 1
    assert score(*flags, "--digest", open_artifact(EXAMPLE).digest).code == 0


@pytest.mark.cluster
@pytest.mark.slow
@pytest.mark.xdist_group("ray")
def test_on_a_ray_cluster_the_rows_keep_their_order_and_bits(engine: Engine, tmp_path: Path):
    observations = drives(engine, 20_000)
    pq.write_table(table(observations, row=np.arange(20_000)), tmp_path / "in.parquet", row_group_size=3000)
    flags = ("--input", str(tmp_path / "in.parquet"), "--output", str(tmp_path / "out"), "--keep", "row")
    done = score_apart(*flags, "--ray", "local")
    assert done.code == 0, done.err
    assert scored(tmp_path / "out").tobytes() == engine.act(observations).control.tobytes()
    assert pq.read_table(tmp_path / "out")["row"].to_pylist() == list(range(20_000))
    assert len(list((tmp_path / "out").iterdir())) > 2  # parts, whose names keep the order
    assert "already exists" in score_apart(*flags, "--ray", "local").err


@pytest.mark.cluster
@pytest.mark.slow
@pytest.mark.xdist_group("ray")
def test_on_a_ray_cluster_a_row_that_does_not_fit_is_named_and_nothing_is_written(engine: Engine, tmp_path: Path):
    for name, row in (("a", 5000), ("b", None)):
        observations = drives(engine, 6000)
        rows = table(observations) if row is None else spoilt(observations, "speed", row, float("nan"))
        (tmp_path / "in").mkdir(exist_ok=True)
        pq.write_table(rows, tmp_path / "in" / f"{name}.parquet", row_group_size=1000)
    flags = ("--input", str(tmp_path / "in"), "--output", str(tmp_path / "out"), "--ray", "local")
    done = score_apart(*flags)
    assert done.code == 1
    assert "a.parquet: row 5000: speed" in done.err
    assert not (tmp_path / "out").exists()
    done = score_apart(*flags, "--skip-invalid")
    assert done.code == 0, done.err
    steer = pq.read_table(tmp_path / "out")["steer"].to_pylist()
    assert [row for row, value in enumerate(steer) if value is None] == [5000]
    assert len(steer) == 12_000


@pytest.fixture(scope="module")
def remembering(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(exported_lstm("1.0.0").artifact, tmp_path_factory.mktemp("remembering"))


def test_a_policy_with_memory_takes_each_rows_state_and_gives_its_next(remembering: Path, tmp_path: Path):
    engine = Engine.open(remembering, device="cpu")
    first, second = drives(engine, 40), drives(engine, 40, seed=1)
    pq.write_table(table(first, state=[None] * 39 + [""]), tmp_path / "first.parquet")
    flags = ("--input", str(tmp_path / "first.parquet"), "--output", str(tmp_path / "out.parquet"))
    done = score(*flags, model=remembering)
    assert done.code == 0, done.err
    states = pq.read_table(tmp_path / "out.parquet")["state"].to_pylist()
    begun = engine.act(first)
    assert scored(tmp_path / "out.parquet").tobytes() == begun.control.tobytes()

    states[7] = states[7][:-6] + "AAAA" + states[7][-2:]  # the last rows are not damaged
    pq.write_table(table(second, state=states), tmp_path / "second.parquet")
    flags = ("--input", str(tmp_path / "second.parquet"), "--output", str(tmp_path / "next.parquet"))
    refused = score(*flags, model=remembering)
    assert (refused.code, "row 7: state" in refused.err) == (1, True), refused.err
    done = score(*flags, "--skip-invalid", model=remembering)
    assert done.code == 0, done.err
    wanted = engine.act(second, state=begun.state).control
    given = scored(tmp_path / "next.parquet")
    assert np.isnan(given[7]).all()
    assert np.delete(given, 7, axis=0).tobytes() == np.delete(wanted, 7, axis=0).tobytes()
    assert pq.read_table(tmp_path / "next.parquet")["state"].to_pylist()[7] is None


def test_without_the_column_state_every_row_begins_an_episode(remembering: Path, tmp_path: Path):
    engine = Engine.open(remembering, device="cpu")
    observations = drives(engine, 3)
    pq.write_table(table(observations), tmp_path / "in.parquet")
    flags = ("--input", str(tmp_path / "in.parquet"), "--output", str(tmp_path / "out.parquet"))
    done = score(*flags, model=remembering)
    assert done.code == 0, done.err
    assert scored(tmp_path / "out.parquet").tobytes() == engine.act(observations).control.tobytes()
    assert all(pq.read_table(tmp_path / "out.parquet")["state"].to_pylist())


def test_a_state_of_another_key_spoils_its_row_alone(remembering: Path, tmp_path: Path):
    engine = Engine.open(remembering, device="cpu")
    observations = drives(engine, 4000)
    states: list[str | None] = [None] * 4000
    tokens = StateTokens(engine.digest, engine.card.memory.shapes, "of another fleet")
    begun = engine.act({name: array[:1] for name, array in observations.items()}).state
    states[2500] = to_text(tokens.encode(begun, np.ones(1, np.uint32))[0])
    pq.write_table(table(observations, state=states), tmp_path / "in.parquet")
    scorer = Scorer(engine)
    of = about(engine, tmp_path / "in.parquet", (), False)
    with pytest.raises(EpisodeError, match="row 2500: state: was made with another key") as refused:
        score_file(scorer, of, tmp_path / "out.parquet", lambda rows, known: None)
    assert refused.value.code == "state_of_another_key"
    flags = ("--input", str(tmp_path / "in.parquet"), "--output", str(tmp_path / "out.parquet"), "--skip-invalid")
    done = score(*flags, model=remembering)
    assert done.code == 0, done.err
    given, wanted = scored(tmp_path / "out.parquet"), engine.act(observations).control
    assert np.flatnonzero(np.isnan(given[:, 0])).tolist() == [2500]
    assert np.delete(given, 2500, axis=0).tobytes() == np.delete(wanted, 2500, axis=0).tobytes()


def test_a_run_with_another_key_does_not_go_on_with_the_parts_of_an_earlier_one(
    remembering: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    engine = Engine.open(remembering, device="cpu")
    pq.write_table(table(drives(engine, 3)), tmp_path / "in.parquet")
    runs = [about(engine, tmp_path / "in.parquet", (), False)]
    for key in ("one", "one", "two"):
        key *= 8  # no key is shorter than 16 characters
        monkeypatch.setenv("POLICY_STATE_KEY", key)
        runs.append(about(engine, tmp_path / "in.parquet", (), False))
    assert runs[1] == runs[2]
    assert len({run.key_id for run in runs}) == 3
    assert len(set(runs)) == 3
