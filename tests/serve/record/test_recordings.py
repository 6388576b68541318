"""What comes back from the files of a recording: every bit, in order, of the right requests."""

from __future__ import annotations

import hashlib
import math
from pathlib import Path

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from recording_support import Recording, numbers, same_bits, served, table_of

from benchmarks.policies.networks import small_view
from carla_mlflow import Artifact, Engine
from carla_mlflow.contract.state_token import to_text
from carla_mlflow.errors import CarlaMlflowError
from serve.record.files import open_recordings
from serve.record.head_file import read_head
from serve.record.packed import PACK, Packed
from serve.record.ring import ACTED, OBSERVED
from serve.record.schema import columns_key, in_share, recording_schema
from training_export.export.export import export_policy


def rows_of(engine: Engine, count: int, seed: int = 0) -> list[dict[str, object]]:
    rng = np.random.default_rng(seed)
    drawn = {spec.name: spec.sample(rng, count) for spec in engine.specs}
    return [{name: array[row] for name, array in drawn.items()} for row in range(count)]


@pytest.fixture
def recording(tmp_path: Path, example: Path) -> Recording:
    return Recording(tmp_path, served(tmp_path, example))


def test_every_bit_of_observation_raw_and_control_comes_back(recording: Recording):
    engine = recording.serving.engine
    rows = rows_of(engine, 40)
    recording.predict([rows[:1], rows[1:8], rows[8:9]])
    recording.predict([rows[9:]])
    found = recording.end()
    table = table_of(found)
    assert table.schema.equals(recording_schema(recording.serving.card, "none"))
    answered = [prediction.answered.actions for prediction in recording.asked]
    assert same_bits(numbers(table, "action"), np.concatenate([actions.control for actions in answered]))
    assert same_bits(numbers(table, "action.raw"), np.concatenate([actions.raw for actions in answered]))
    for spec in engine.specs:
        wanted = np.stack([row[spec.name] for row in rows])
        assert same_bits(numbers(table, f"observation.{spec.name}").reshape(wanted.shape), wanted)
    assert table["row"].to_pylist() == [0, *range(7), 0, *range(31)]
    assert table["sequence"].to_pylist() == list(range(40))
    assert set(table["digest"].to_pylist()) == {engine.digest}
    assert (found.rows, found.lost, found.verify()) == (40, 0, [])
    assert found.cards == {engine.digest: engine.card}
    again = engine.act({spec.name: numbers(table, f"observation.{spec.name}") for spec in engine.specs})
    assert same_bits(again.control, numbers(table, "action"))


def test_a_sampled_action_is_recorded_with_its_seed(recording: Recording):
    [row] = rows_of(recording.serving.engine, 1)
    recording.predict([[row]], deterministic=False, seed=7)
    recording.predict([[row]])
    table = table_of(recording.end())
    assert table["seed"].to_pylist() == [7, None]
    assert table["deterministic"].to_pylist() == [False, True]


def test_times_steps_and_ids_tell_which_request_it_was(recording: Recording):
    rows = rows_of(recording.serving.engine, 6)
    for row in rows:
        recording.predict([[row], [row]], episodes=["one", None])
    table = table_of(recording.end(), episode="one")
    assert table["frame_index"].to_pylist() == list(range(6))
    assert set(table["episode_index"].to_pylist()) == {0}
    assert table["request_id"].to_pylist() == [f"request-{number}" for number in range(0, 12, 2)]
    times = table["timestamp"].cast(pa.int64()).to_numpy()
    assert (np.diff(times) > 0).all()
    total, inference = (table[f"{part}_ms"].to_numpy() for part in ("total", "inference"))
    assert (total > inference).all()
    assert (inference > 0).all()


def test_a_request_that_is_packed_in_parts_is_one_action_of_its_episode(recording: Recording):
    rows = rows_of(recording.serving.engine, 1024)
    for each in (rows[:1], rows, rows[:1]):  # more than two blocks
        recording.predict([each], episodes=["one"])
    table = table_of(recording.end())
    assert table["row"].to_pylist() == [0, *range(1024), 0]
    assert table["frame_index"].to_pylist() == [0, *[1] * 1024, 2]
    assert len(set(table["timestamp"][1:1025].to_pylist())) == 1


NO_OUTCOME = Packed(0, ["x"], None, None, b"", b"", b"", None, None, 9, None, None, None, [])


@pytest.mark.parametrize("payload", [b"\xc1", PACK(NO_OUTCOME)], ids=["no message", "no outcome"])
def test_a_block_that_can_not_be_read_costs_its_rows_and_no_others(recording: Recording, payload: bytes):
    digest = bytes.fromhex(recording.serving.digest.removeprefix("sha256:"))
    for row in rows_of(recording.serving.engine, 2):
        recording.predict([[row]])
        recording.recorder.flush()
        recording.recorder._ring.append(digest, 5, OBSERVED | ACTED, payload)
    found = recording.end()
    assert (found.rows, read_head(found.nodes[0]).lost) == (2, {"failed": 10})
    assert table_of(found)["sequence"].to_pylist() == [0, 6]


def test_errors_are_recorded_with_what_the_car_got(recording: Recording):
    [row] = rows_of(recording.serving.engine, 1)
    [late] = recording.predict([[row]], episodes=["e"])
    recording.refuse(504, late, "e")
    recording.refuse(400)
    recording.refuse(429, None, "e")
    found = recording.end()
    table = table_of(found).sort_by("sequence")
    assert table["outcome"].to_pylist() == ["policy", "fallback", "refused", "refused"]
    assert table["status"].to_pylist() == [200, 504, 400, 429]
    fallback = dict(recording.serving.card.action.fallback)
    assert table["action"][1].as_py() == [fallback[name] for name in recording.serving.card.action.control_names]
    assert table["action"].null_count == 2
    assert table["action.raw"].null_count == 3
    assert table["observation.speed"].to_pylist()[:2] == [row["speed"], row["speed"]]
    assert table["observation.speed"].null_count == 2
    assert table["episode_id"].to_pylist() == ["e", "e", None, "e"]
    assert found.verify() == []


@pytest.mark.parametrize("images", ["keep", "hash", "none"])
def test_images_are_kept_hashed_or_left_out(tmp_path: Path, images: str):
    serving = served(tmp_path, export_policy(small_view(), "viewer", "1.0.0", "").artifact)
    recording = Recording(tmp_path, serving, {"record_images": images})
    rows = rows_of(serving.engine, 5)
    recording.predict([rows[:2], rows[2:]])
    table = table_of(recording.end())
    assert table.schema.equals(recording_schema(serving.card, images))
    seen = [row["bev"].tobytes() for row in rows]
    if images == "keep":
        shape = (5, *next(spec.shape for spec in serving.engine.specs if spec.name == "bev"))
        pixels = numbers(table, "observation.bev")
        assert [image.tobytes() for image in pixels] == seen
        again = serving.engine.act({"bev": pixels.reshape(shape), "state": numbers(table, "observation.state")})
        assert same_bits(again.control, numbers(table, "action"))
    elif images == "hash":
        assert table["observation.bev.sha256"].to_pylist() == [hashlib.sha256(image).digest() for image in seen]
    else:
        assert not [name for name in table.column_names if "bev" in name]


def test_a_policy_with_memory_is_recorded_so_that_it_can_be_run_again(tmp_path: Path, remembering: Artifact):
    serving = served(tmp_path, remembering)
    recording = Recording(tmp_path, serving)
    episodes, tokens = ["a", "b", "c"], [None, None, None]
    for step in range(12):
        rows = rows_of(serving.engine, 3, seed=step)
        requests = [[{**row, "state": token}] if token else [row] for row, token in zip(rows, tokens, strict=True)]
        answered = recording.predict(requests, episodes)
        tokens = [to_text(each.answered.tokens[0]) for each in answered]
    table = table_of(recording.end())
    names = list(serving.card.states)
    for episode in episodes:
        rows = table.filter(pc.equal(table["episode_id"], episode))
        assert rows["frame_index"].to_pylist() == list(range(12))
        assert rows["reset"].to_pylist() == [True, *[False] * 11]
        given = [row for row in range(12) if rows[f"state.{names[0]}"][row].is_valid]
        assert len(given) <= 1  # only where the minute changed meanwhile: the episode's beginning is there
        state = None
        for row in range(12):
            one = rows.slice(row, 1)
            seen = {spec.name: numbers(one, f"observation.{spec.name}") for spec in serving.engine.specs}
            actions = serving.engine.act(seen, state=state)
            assert same_bits(actions.control, numbers(one, "action"))
            state = actions.state
            if row + 1 in given:
                for name in names:
                    assert rows[f"state.{name}"][row + 1].as_py() == state[name].ravel().tolist()


def test_policies_of_one_contract_whose_states_have_other_names_do_not_share_a_file(remembering: Artifact):
    card = remembering.card
    other = msgspec.structs.replace(card, state={f"{name}_too": state for name, state in card.state.items()})
    assert other.contract == card.contract
    assert columns_key(other) != columns_key(card)
    assert recording_schema(other, "none") != recording_schema(card, "none")


def test_a_share_of_the_episodes_is_recorded_whole(tmp_path: Path, example: Path):
    recording = Recording(tmp_path, served(tmp_path, example), share=0.3)
    [row] = rows_of(recording.serving.engine, 1)
    episodes = [f"episode-{number}" for number in range(200)]
    for _ in range(3):
        recording.predict([[row]] * 200, episodes)
    table = table_of(recording.end())
    counts = {each["values"]: each["counts"] for each in table["episode_id"].value_counts().to_pylist()}
    assert set(counts.values()) == {3}
    assert set(counts) == {episode for episode in episodes if in_share(episode, "", 0.3)}
    assert 40 < len(counts) < 80


def test_a_larger_share_keeps_the_episodes_of_a_smaller_one():
    ids = [f"{number}" for number in range(10_000)]
    shares = [{each for each in ids if in_share(each, "", share)} for share in (0.0, 0.1, 0.5, 1.0)]
    assert [len(each) for each in shares[::3]] == [0, 10_000]
    assert shares[1] < shares[2]
    assert math.isclose(len(shares[1]), 1000, abs_tol=100)


def test_rows_are_read_by_time_and_by_column(recording: Recording):
    rows = rows_of(recording.serving.engine, 30)
    for row in rows:
        recording.predict([[row]])
        recording.write(0.2)
    found = recording.end()
    assert len(found.files) > 3
    times = table_of(found)["timestamp"].cast(pa.int64()).to_pylist()
    assert times == sorted(times)
    part = table_of(found, start=times[7], end=times[20], columns=["timestamp", "action"])
    assert part["timestamp"].cast(pa.int64()).to_pylist() == times[7:20]
    assert part.column_names == ["timestamp", "action"]
    assert list(found.batches(start=times[-1] + 1)) == []


def test_a_folder_without_recordings_is_refused(tmp_path: Path):
    with pytest.raises(CarlaMlflowError, match="there are no recordings"):
        open_recordings(tmp_path)


def test_only_the_owner_may_read_a_recording(recording: Recording):
    recording.predict([rows_of(recording.serving.engine, 1)])
    [node] = recording.end().nodes
    folders = [recording.records, node, *(path for path in node.iterdir() if path.is_dir())]
    assert {path.stat().st_mode & 0o777 for path in folders} == {0o700}
    files = [path for path in node.rglob("*") if path.is_file()]
    assert {path.stat().st_mode & 0o777 for path in files if path.name != ".lock"} == {0o600}
