"""Replaying a recording: the same bits, what another version would have done, and what is damaged or differs."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from made_recordings import BEGAN, TICK, driven, write
from tests_support import EXAMPLE, Finished, example_as

from benchmarks.policies.two_policies import small_policy
from benchmarks.policies.two_policies import write as write_policy
from carla_mlflow import Artifact, Engine, open_artifact
from carla_mlflow.artifact.artifact import write_artifact
from serve.record.head_file import Head, write_head
from serve.replay.machine import engine_here

Replay = Callable[..., Finished]


@pytest.fixture(scope="module")
def engine() -> Engine:
    return Engine.open(EXAMPLE, device="cpu")


@pytest.fixture(scope="module")
def versions(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two policies with one contract and different weights."""
    folder = tmp_path_factory.mktemp("versions")
    return [write_policy(small_policy("1.0.0", 1), folder), write_policy(small_policy("1.1.0", 2), folder)]


@pytest.fixture
def replay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Replay:
    """Runs the command in a working folder without a registry, and with a cache of its own."""
    monkeypatch.chdir(tmp_path)
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("POLICY_CACHE_DIR", str(tmp_path / "cache"))

    def run(*arguments: object) -> Finished:
        from serve.replay.command import main

        try:
            code = main([str(argument) for argument in arguments])
        except SystemExit as ended:  # argparse's
            code = int(ended.code or 0)
        told = capsys.readouterr()
        return Finished(code, told.out, told.err)

    return run


def test_what_drove_gives_the_same_bits_again(engine: Engine, replay: Replay, tmp_path: Path):
    folder = write(tmp_path / "rec", [(engine, driven(engine, late=[3]))])
    done = replay(folder, "--artifacts", EXAMPLE, "--json")
    assert done.code == 0, done.err
    told = json.loads(done.out)
    [again] = told["again"]
    assert (again["rows"], again["equal"], again["differing"], again["fallbacks"]) == (39, 39, 0, 1)
    assert told["outcomes"] == {"policy": 39, "fallback": 1}
    assert (told["episodes"], told["asked_journal"]) == (2, False)
    [span] = told["drove"]
    assert (span["version"], span["digest"], span["rows"]) == ("0.1.0", engine.digest, 40)


@pytest.mark.parametrize("sampled", [False, True])
@pytest.mark.parametrize("episodes", [["a", "b", "c"], [None, None]])
def test_memory_and_samples_give_the_same_bits_again(
    sampled: bool, episodes: list[Any], remembering: Artifact, replay: Replay, tmp_path: Path
):
    artifact = write_artifact(tmp_path / "policy", remembering).path
    engine = Engine.open(artifact, device="cpu")
    folder = write(tmp_path / "rec", [(engine, driven(engine, episodes, sampled=sampled))])
    done = replay(folder, "--artifacts", artifact, "--json")
    assert done.code == 0, done.err
    [again] = json.loads(done.out)["again"]
    rows = 20 * len(episodes)
    assert (again["rows"], again["equal"], again["skipped"]) == (rows, rows, {})
    assert (again["states"], again["states_differing"]) == (len(episodes) if episodes[0] else 0, 0)


def test_a_recorded_state_that_the_step_before_did_not_lead_to_is_found(
    remembering: Artifact, replay: Replay, tmp_path: Path
):
    artifact = write_artifact(tmp_path / "policy", remembering).path
    engine = Engine.open(artifact, device="cpu")
    table = driven(engine, ["a"])
    state = table["state.h"].to_pylist()[10]
    forged = changed(table, "state.h", 10, [np.nextafter(np.float32(state[0]), np.float32(9)), *state[1:]])
    done = replay(write(tmp_path / "rec", [(engine, forged)]), "--artifacts", artifact)
    assert done.code == 1
    assert "1 of 1 recorded states are NOT those of the step before" in done.out


def test_samples_without_memory_give_the_same_bits_again(engine: Engine, replay: Replay, tmp_path: Path):
    folder = write(tmp_path / "rec", [(engine, driven(engine, sampled=True))])
    done = replay(folder, "--artifacts", EXAMPLE, "--json")
    assert done.code == 0, done.err
    assert json.loads(done.out)["again"][0]["equal"] == 40


def test_images_that_were_not_kept_are_told_and_nothing_is_made_up(seeing: Artifact, replay: Replay, tmp_path: Path):
    artifact = write_artifact(tmp_path / "policy", seeing).path
    engine = Engine.open(artifact, device="cpu")
    table = driven(engine, steps=12)
    kept = replay(write(tmp_path / "kept", [(engine, table)]), "--artifacts", artifact, "--json")
    assert json.loads(kept.out)["again"][0]["equal"] == 24
    for images in ("hash", "none"):
        folder = write(tmp_path / images, [(engine, table)], images)
        done = replay(folder, "--artifacts", artifact, "--model", artifact, "--json")
        assert done.code == 1  # nothing shows that the bits are the same
        told = json.loads(done.out)
        assert told["again"][0]["skipped"] == {"not recorded: view": 24}
        assert told["compared"]["skipped"] == {"not recorded: view": 24}


def changed(table: pa.Table, column: str, row: int, value: Any) -> pa.Table:
    values = table[column].to_pylist()
    values[row] = value
    return table.set_column(
        table.schema.get_field_index(column), column, pa.array(values, table.schema.field(column).type)
    )


@pytest.mark.parametrize("column", ["action", "action.raw"])
def test_an_action_that_is_one_bit_off_is_named(column: str, engine: Engine, replay: Replay, tmp_path: Path):
    table = driven(engine)
    action = np.array(table[column].to_pylist()[17], np.float32)
    action[0] = np.nextafter(action[0], np.float32(2))
    folder = write(tmp_path / "rec", [(engine, changed(table, column, 17, action.tolist()))])
    done = replay(folder, "--artifacts", EXAMPLE)
    assert done.code == 1
    assert "39 of 40 rows have the same bits" in done.out
    assert "1 DIFFER" in done.out
    assert "episode b, frame 8, request r8-1[0]" in done.out


def test_a_fallback_that_is_not_the_cards_is_found(engine: Engine, replay: Replay, tmp_path: Path):
    table = changed(driven(engine, late=[3]), "action", 6, [0.5, 0.0, 0.0])
    done = replay(write(tmp_path / "rec", [(engine, table)]), "--artifacts", EXAMPLE, "--json")
    assert done.code == 1
    assert json.loads(done.out)["again"][0]["fallbacks_differing"] == 1


def test_a_flipped_byte_in_a_file_is_found_and_the_file_named(engine: Engine, replay: Replay, tmp_path: Path):
    parts = [(engine, driven(engine, began=BEGAN + minute * 60 * 10**9, seed=minute)) for minute in range(3)]
    folder = write(tmp_path / "rec", parts)
    path = folder / "car" / "2025-11-28" / "1402-2.parquet"
    data = bytearray(path.read_bytes())
    data[len(data) // 3] ^= 1
    path.write_bytes(data)
    done = replay(folder, "--artifacts", EXAMPLE)
    assert (done.code, "Traceback" in done.err) == (1, False)
    assert f"refused  {path}:" in done.err
    assert "1402-1" not in done.err


def test_a_file_that_is_gone_is_found(engine: Engine, replay: Replay, tmp_path: Path):
    folder = write(tmp_path / "rec", [(engine, driven(engine)), (engine, driven(engine, seed=1))])
    (folder / "car" / "2025-11-28" / "1402-1.parquet").unlink()
    done = replay(folder, "--artifacts", EXAMPLE)
    assert done.code == 1
    assert "1402-1.parquet: is missing" in done.err


def machine(engine: Engine, **other: str) -> dict[str, Any]:
    return {"machine": engine_here(engine) | other, f"engine:{engine.digest}": {"backend": engine.backend}}


def test_another_processor_is_held_to_the_cards_tolerance_and_that_is_said(
    engine: Engine, replay: Replay, tmp_path: Path
):
    table = driven(engine)
    action = np.array(table["action"].to_pylist()[17], np.float32)
    near = changed(table, "action", 17, (action + np.float32(5e-7)).tolist())
    folder = write(tmp_path / "near", [(engine, near)], more=machine(engine, processor="Another 9000"))
    done = replay(folder, "--artifacts", EXAMPLE)
    assert done.code == 0, done.out
    assert "39 of 40 rows have the same bits; 1 lie within the card's tolerance" in done.out
    assert "the bits need not be the same here (processor " in done.out
    assert "instead of Another 9000" in done.out
    far = changed(table, "action", 17, (action + np.float32(1e-3)).tolist())
    folder = write(tmp_path / "far", [(engine, far)], more=machine(engine, processor="Another 9000"))
    assert replay(folder, "--artifacts", EXAMPLE).code == 1
    folder = write(tmp_path / "same", [(engine, near)], more=machine(engine))
    assert replay(folder, "--artifacts", EXAMPLE).code == 1


def test_the_recorded_backend_is_run_again(replay: Replay, tmp_path: Path):
    engine = Engine.open(EXAMPLE, device="cpu", backend="torchscript")
    folder = write(tmp_path / "rec", [(engine, driven(engine))], more=machine(engine))
    done = replay(folder, "--artifacts", EXAMPLE)
    assert (done.code, "need not be" in done.out) == (0, False), done.out
    done = replay(folder, "--artifacts", EXAMPLE, "--backend", "onnx")
    assert "backend onnx instead of torchscript" in done.out


def test_another_versions_differences_are_those_of_its_actions(versions: list[Path], replay: Replay, tmp_path: Path):
    was, other = (Engine.open(path, device="cpu") for path in versions)
    table = driven(was, steps=100)
    folder = write(tmp_path / "rec", [(was, table)])
    done = replay(folder, "--artifacts", versions[0].parent, "--model", versions[1], "--json")
    assert done.code == 0, done.err
    told = json.loads(done.out)
    compared = told["compared"]
    observed = np.array(table["observation.state"].to_pylist(), np.float32)
    before = np.array(table["action"].to_pylist(), np.float32).astype(np.float64)
    after = other.act({"state": observed}).control.astype(np.float64)
    steer, acceleration = compared["dimensions"]
    assert (steer["name"], acceleration["name"]) == ("steer", "acceleration")
    apart = np.abs(after[:, 2] - before[:, 2])
    assert steer["max"] == apart.max()
    assert steer["mean"] == pytest.approx(apart.mean(), abs=1e-9)
    assert steer["over"]["0.1"] == (apart > 0.1).mean()
    pedals = (after[:, 0] - after[:, 1]), (before[:, 0] - before[:, 1])
    assert acceleration["max"] == np.abs(pedals[0] - pedals[1]).max()
    opposed = (pedals[0] * pedals[1] < 0) & (np.abs(pedals[0] - pedals[1]) >= 0.1)
    assert compared["brake_against_throttle"] == opposed.sum()
    worst = np.maximum(apart, np.abs(pedals[0] - pedals[1])) / 2
    assert [moment["difference"] for moment in compared["worst"]] == pytest.approx(sorted(worst)[::-1][:20])
    place = int(worst.argmax())
    first = compared["worst"][0]
    assert (first["episode"], first["frame"]) == ("ab"[place % 2], place // 2)
    assert told["other"]["version"] == "1.1.0"
    assert max(v for v in told["timeline"]["largest"]["steer"] if v is not None) == apart.max()


def test_the_table_shows_distribution_disagreement_and_the_worst_moments(
    versions: list[Path], replay: Replay, tmp_path: Path
):
    was = Engine.open(versions[0], device="cpu")
    folder = write(tmp_path / "rec", [(was, driven(was))])
    done = replay(folder, "--artifacts", versions[0], "--model", versions[1])
    assert done.code == 0, done.err
    assert "follow-me 1.1.0 on 40 rows" in done.out
    assert "brake against throttle: " in done.out
    lines = done.out.splitlines()
    assert any(line.startswith("steer ") for line in lines)
    assert sum(" → " in line and line[:2] == "20" for line in lines) == 20


def test_a_version_with_memory_runs_its_own_episodes_from_their_start(
    remembering: Artifact, replay: Replay, tmp_path: Path
):
    import msgspec

    from carla_mlflow.artifact.artifact import seal

    path = write_artifact(tmp_path / "1.0.0", remembering).path
    card = msgspec.structs.replace(remembering.card, version="1.0.1")
    files = {name: data for name, data in remembering.files.items() if name in card.files}
    again = write_artifact(tmp_path / "1.0.1", seal(card, files)).path
    engine = Engine.open(path, device="cpu")
    table = driven(engine, ["a", "b"], steps=30)
    begun_before = table.filter(pa.compute.or_(pa.compute.equal(table["episode_id"], "a"), _later(table, 15)))
    folder = write(tmp_path / "rec", [(engine, begun_before)])
    done = replay(folder, "--artifacts", path, "--model", again, "--json")
    assert done.code == 0, done.err
    told = json.loads(done.out)
    assert told["compared"]["rows"] == told["compared"]["equal"] == 30  # the same weights under another version
    assert told["compared"]["skipped"] == {"the episode's start is not in the recording": 15}
    assert (told["again"][0]["equal"], told["again"][0]["skipped"]) == (
        40,
        {"the episode's start is not in the recording": 5},
    )


def _later(table: pa.Table, frame: int) -> pa.ChunkedArray:
    return pa.compute.greater_equal(table["frame_index"], frame)


def test_only_a_moment_or_an_episode_is_replayed_with_the_memory_from_before(
    remembering: Artifact, replay: Replay, tmp_path: Path
):
    path = write_artifact(tmp_path / "policy", remembering).path
    engine = Engine.open(path, device="cpu")
    folder = write(tmp_path / "rec", [(engine, driven(engine, ["a", "b"], steps=60))])
    done = replay(folder, "--artifacts", path, "--at", "2025-11-28T14:02:01Z", "--json")
    assert done.code == 0, done.err
    told = json.loads(done.out)
    assert told["rows"] == told["again"][0]["equal"] == 40
    assert told["first"] == "2025-11-28T14:02:01.000000000Z"
    done = replay(folder, "--artifacts", path, "--episode", "b", "--from", "2025-11-28T14:02:02Z", "--json")
    assert json.loads(done.out)["again"][0]["equal"] == 20
    done = replay(folder, "--artifacts", path, "--at", "2025-11-28T14:03Z")
    assert (done.code, done.out) == (1, "recorded  no rows\n")
    first = datetime(2025, 11, 28, 14, 2, tzinfo=UTC).astimezone()  # as told here, in the reader's zone
    assert f"no rows of that time or episode; the recording has {first:%Y-%m-%d %H:%M}:" in done.err


@pytest.mark.parametrize(
    ("flags", "complaint"),
    [
        (["--at", "noon"], "is no time: expected such as"),
        (["--at", "2025-11-28T14:02", "--to", "2025-11-28T14:03"], "give one of them"),
        (["--backend", "best"], "invalid choice"),
    ],
)
def test_wrong_usage_ends_with_2(flags: list[str], complaint: str, engine: Engine, replay: Replay, tmp_path: Path):
    done = replay(write(tmp_path / "rec", [(engine, driven(engine, steps=2))]), *flags)
    assert done.code == 2
    assert complaint in done.err


def test_what_is_no_recording_or_has_no_artifact_is_said_in_one_line(engine: Engine, replay: Replay, tmp_path: Path):
    done = replay(tmp_path / "nothing")
    assert (done.code, "there are no recordings" in done.err) == (1, True)
    (tmp_path / "new" / "car").mkdir(parents=True)
    write_head(tmp_path / "new" / "car", Head())
    done = replay(tmp_path / "new")  # of a server that records since less than a minute
    assert (done.code, done.out) == (1, "recorded  no rows\n")
    assert "no file is finished yet: one is a minute after its first row, or when its server ends" in done.err
    folder = write(tmp_path / "rec", [(engine, driven(engine, steps=2))])
    done = replay(folder)
    assert (done.code, done.err) == (1, "")
    assert f"4 rows not run: racetrack-policy {engine.digest} is not in the cache; name a folder" in done.out


def test_a_policy_that_answers_something_else_is_not_compared(
    versions: list[Path], engine: Engine, replay: Replay, tmp_path: Path
):
    from without_pedals import KINDS

    folder = write(tmp_path / "rec", [(engine, driven(engine, steps=2))])
    done = replay(folder, "--artifacts", EXAMPLE, "--model", KINDS["steer"].write(tmp_path))
    assert (done.code, "answers steer, not throttle, brake, steer" in done.err) == (1, True)
    done = replay(folder, "--artifacts", EXAMPLE, "--model", versions[0], "--json")  # it observes something else
    assert json.loads(done.out)["compared"]["skipped"] == {"not recorded: state": 4}


def test_rows_that_the_version_drove_itself_are_left_out(replay: Replay, tmp_path: Path):
    paths = [EXAMPLE, example_as(tmp_path, "0.1.1")]
    both = [Engine(open_artifact(path), "cpu") for path in paths]
    parts = [(one, driven(one, steps=5, began=BEGAN + place * 5 * TICK)) for place, one in enumerate(both)]
    folder = write(tmp_path / "rec", parts)
    done = replay(folder, "--artifacts", EXAMPLE, "--artifacts", paths[1], "--model", paths[1], "--json")
    told = json.loads(done.out)
    assert [(span["version"], span["rows"]) for span in told["drove"]] == [("0.1.0", 10), ("0.1.1", 10)]
    assert (told["compared"]["rows"], told["compared"]["skipped"]) == (10, {"it drove them itself": 10})


def test_a_report_is_told_and_its_folder_is_looked_for_before_anything_is_read(
    engine: Engine, replay: Replay, tmp_path: Path
):
    folder = write(tmp_path / "rec", [(engine, driven(engine, late=[3]))])
    report = tmp_path / "report.html"
    assert f"wrote {report}" in replay(folder, "--artifacts", EXAMPLE, "--html", report).out.splitlines()
    done = replay(folder, "--html", tmp_path / "nowhere" / "report.html")
    assert (done.code, f"argument --html: {tmp_path}/nowhere: no such folder" in done.err) == (2, True)
