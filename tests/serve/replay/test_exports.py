"""Exports of a recording: LeRobot's format, MCAP, and a report for browsers."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from made_recordings import BEGAN, TICK, batches, driven, table_of, without_images
from PIL import Image
from read_page import check_asks_nobody
from tests_support import EXAMPLE, example_as

from carla_mlflow import Artifact, Engine
from carla_mlflow.contract.card import Card
from carla_mlflow.errors import RefusedError
from serve.replay import lerobot
from serve.replay.html import as_html
from serve.replay.lerobot import LeRobotWriter


@pytest.fixture(scope="module")
def engine() -> Engine:
    return Engine.open(EXAMPLE, device="cpu")


@pytest.fixture(scope="module")
def eye(seeing: Artifact) -> Engine:
    return Engine(seeing, "cpu")


def dataset(folder: Path, engine: Engine, *tables: pa.Table) -> str:
    writer = LeRobotWriter(folder, {engine.digest: engine.card})
    for batch in batches(*tables):
        writer.add(batch)
    return writer.close()


def of_episode(table: pa.Table, episode: str) -> pa.Table:
    return table.filter(pa.compute.equal(table["episode_id"], episode))


def test_a_lerobot_dataset_has_each_episodes_frames_in_order(engine: Engine, tmp_path: Path):
    table = driven(engine, ["a", "b", None], late=[4])
    told = dataset(tmp_path / "set", engine, table.slice(0, 31), table.slice(31))
    assert told == f"{tmp_path / 'set'}: 2 episodes of 40 frames; 20 rows left out: in no episode"
    info = json.loads((tmp_path / "set/meta/info.json").read_text())
    wanted = ("v3.0", 2, 40, 10, {"train": "0:2"})
    keys = ("codebase_version", "total_episodes", "total_frames", "fps", "splits")
    assert tuple(info[key] for key in keys) == wanted
    assert info["features"]["action"] == {"dtype": "float32", "shape": [3], "names": ["throttle", "brake", "steer"]}
    place = info["data_path"].format(chunk_index=0, file_index=0)
    frames = pq.read_table(tmp_path / "set" / place)
    assert set(frames.column_names) == set(info["features"])
    assert frames["index"].to_pylist() == list(range(40))
    assert frames["frame_index"].to_pylist() == [*range(20), *range(20)]
    assert frames["episode_index"].to_pylist() == [0] * 20 + [1] * 20
    assert frames["timestamp"].to_pylist() == [np.float32(step / 10) for step in range(20)] * 2
    for number, episode in enumerate("ab"):
        rows, recorded = frames.slice(20 * number, 20), of_episode(table, episode)
        for name in ("action", "observation.sensors", "observation.speed"):
            assert rows[name].to_pylist() == recorded[name].to_pylist()
        assert rows["time_ns"].to_pylist() == recorded["timestamp"].cast(pa.int64()).to_pylist()


def test_a_lerobot_datasets_meta_says_where_episodes_lie_and_what_is_usual(engine: Engine, tmp_path: Path):
    table = driven(engine)
    dataset(tmp_path / "set", engine, table)
    tasks = pd.read_parquet(tmp_path / "set/meta/tasks.parquet")
    assert tasks["task_index"].to_dict() == {"racetrack-policy 0.1.0": 0}
    episodes = pq.read_table(tmp_path / "set/meta/episodes/chunk-000/file-000.parquet").to_pylist()
    assert [(e["dataset_from_index"], e["dataset_to_index"], e["length"]) for e in episodes] == [
        (0, 20, 20),
        (20, 40, 20),
    ]
    assert [e["tasks"] for e in episodes] == [["racetrack-policy 0.1.0"]] * 2
    stats = json.loads((tmp_path / "set/meta/stats.json").read_text())
    sensors = np.array(table["observation.sensors"].to_pylist())
    assert stats["observation.sensors"]["mean"] == pytest.approx(sensors.mean(axis=0))
    assert stats["observation.sensors"]["std"] == pytest.approx(sensors.std(axis=0))
    assert stats["observation.sensors"]["max"] == sensors.max(axis=0).tolist()
    assert stats["action"]["count"] == [40]
    first = np.array(of_episode(table, "a")["observation.sensors"].to_pylist())
    assert episodes[0]["stats/observation.sensors/min"] == first.min(axis=0).tolist()


def test_an_episode_of_which_steps_were_lost_becomes_several(engine: Engine, tmp_path: Path):
    table = driven(engine, ["a"], steps=12)
    lost = table.filter(pa.compute.invert(pa.compute.is_in(table["frame_index"], pa.array([4, 5]))))
    later = driven(engine, ["a"], steps=3, began=BEGAN + 700 * 10**9)
    assert "3 episodes of 13 frames" in dataset(tmp_path / "set", engine, lost, later)
    frames = pq.read_table(tmp_path / "set/data/chunk-000/file-000.parquet")
    assert frames["frame_index"].to_pylist() == [*range(4), *range(6), *range(3)]


def with_steps(table: pa.Table, card: Card, workers: list[int], frames: list[int]) -> pa.Table:
    steps = zip(table.to_pylist(), workers, frames, strict=True)
    return table_of(card, [row | {"worker": worker, "frame_index": frame} for row, worker, frame in steps])


@pytest.mark.parametrize(
    ("workers", "frames", "lengths"),
    [
        ([7, 7, 8, 8, 7, 8], [0, 1, 0, 1, 2, 2], [6]),
        ([7, 7, 8, 8, 7, 8], [0, 1, 0, 1, 4, 2], [4, 2]),  # the first worker lost two
        ([7, 7, 8, 8, 7, 8], [0, 1, 3, 4, 2, 5], [6]),  # the second one's first three: nothing tells
    ],
)
def test_an_episode_that_several_workers_counted_is_whole_where_each_has_all_of_its_steps(
    workers: list[int], frames: list[int], lengths: list[int], engine: Engine, tmp_path: Path
):
    table = with_steps(driven(engine, ["a"], steps=6), engine.card, workers, frames)
    dataset(tmp_path / "set", engine, table)
    episodes = pq.read_table(tmp_path / "set/meta/episodes/chunk-000/file-000.parquet")
    assert episodes["length"].to_pylist() == lengths


def test_with_memory_the_steps_are_the_episodes_whichever_worker_had_them(remembering: Artifact, tmp_path: Path):
    engine = Engine(remembering, "cpu")
    table = with_steps(driven(engine, ["a"], steps=6), engine.card, [7, 7, 8, 8, 7, 8], [0, 1, 2, 3, 4, 6])
    dataset(tmp_path / "set", engine, table)
    episodes = pq.read_table(tmp_path / "set/meta/episodes/chunk-000/file-000.parquet")
    assert episodes["length"].to_pylist() == [5, 1]


def test_an_id_that_was_used_again_with_other_columns_is_another_episode(engine: Engine, eye: Engine, tmp_path: Path):
    seen = driven(eye, ["a"], steps=4)
    tables = [seen, driven(engine, ["a"], steps=3, began=BEGAN + 1), without_images(seen, eye.card)]
    writer = LeRobotWriter(tmp_path / "set", {each.digest: each.card for each in (engine, eye)})
    for batch in batches(*tables):
        writer.add(batch)
    told = f"{tmp_path / 'set'}: 1 episodes of 4 frames; 7 rows left out: of another contract than the first rows"
    assert writer.close() == told


def test_episodes_are_written_while_others_go_on_and_files_have_a_size(
    engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(lerobot, "FILE_MB", 0)
    tables = [driven(engine, [f"e{n}"], steps=5, began=BEGAN + n * 700 * 10**9) for n in range(3)]
    writer = LeRobotWriter(tmp_path / "set", {engine.digest: engine.card})
    for number, batch in enumerate(batches(*tables)):
        writer.add(batch)
        assert writer.frames == 5 * number
    writer.close()
    files = sorted(path.name for path in (tmp_path / "set/data/chunk-000").iterdir())
    assert files == ["file-000.parquet", "file-001.parquet", "file-002.parquet"]
    episodes = pq.read_table(tmp_path / "set/meta/episodes/chunk-000/file-000.parquet").to_pylist()
    assert [episode["data/file_index"] for episode in episodes] == [0, 1, 2]
    assert [path.name for path in tmp_path.iterdir()] == ["set"]


def test_images_become_pictures_that_lose_nothing(eye: Engine, tmp_path: Path):
    table = driven(eye, ["a"], steps=3)
    dataset(tmp_path / "set", eye, table)
    info = json.loads((tmp_path / "set/meta/info.json").read_text())
    assert info["features"]["observation.images.view"] == {
        "dtype": "image",
        "shape": [36, 36, 3],
        "names": ["height", "width", "channels"],
    }
    frames = pq.read_table(tmp_path / "set/data/chunk-000/file-000.parquet")
    for picture, recorded in zip(
        frames["observation.images.view"].to_pylist(), table["observation.view"].to_pylist(), strict=True
    ):
        pixels = np.moveaxis(np.asarray(Image.open(io.BytesIO(picture["bytes"]))), 2, 0)
        assert pixels.reshape(-1).tolist() == recorded


def test_without_an_episode_or_into_an_old_folder_nothing_is_written(engine: Engine, tmp_path: Path):
    with pytest.raises(RefusedError, match="no episode to write; 4 rows left out: in no episode; clients name"):
        dataset(tmp_path / "set", engine, driven(engine, [None, None], steps=2))
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "set").mkdir()
    with pytest.raises(RefusedError, match="already exists"):
        LeRobotWriter(tmp_path / "set", {})


def test_an_mcap_file_has_a_message_of_each_kind_a_row(engine: Engine, eye: Engine, tmp_path: Path):
    pytest.importorskip("mcap", reason="mcap is not installed: pip install 'carla-mlflow[replay]'")
    from mcap.reader import make_reader

    from serve.replay.mcap_file import McapWriter

    tables = [driven(engine, ["a"], steps=4, late=[2]), driven(eye, [None], steps=2, began=BEGAN + 10 * TICK)]
    writer = McapWriter(tmp_path / "x.mcap", {each.digest: each.card for each in (engine, eye)})
    for batch in batches(*tables):
        writer.add(batch)
    assert writer.close() == f"{tmp_path / 'x.mcap'}: 18 messages"
    with (tmp_path / "x.mcap").open("rb") as file:
        found = [(c.topic, s.name, m.log_time, json.loads(m.data)) for s, c, m in make_reader(file).iter_messages()]
    actions = [message for topic, _, _, message in found if topic == "/action"]
    recorded = [row for table in tables for row in table.to_pylist()]
    assert [message["outcome"] for message in actions] == [row["outcome"] for row in recorded]
    assert [[message[name] for name in ("throttle", "brake", "steer")] for message in actions] == [
        row["action"] for row in recorded
    ]
    assert actions[2].get("raw") is None
    observed = [message for topic, _, _, message in found if topic == "/observation"]
    assert [message["sensors"] for message in observed] == tables[0]["observation.sensors"].to_pylist()
    images = [(schema, when) for topic, schema, when, _ in found if topic == "/observation/view"]
    assert images == [("foxglove.CompressedImage", BEGAN + step * TICK) for step in (10, 11)]


def compared(engine: Engine, tmp_path: Path, episode: str = "b") -> Any:
    from serve.replay.drove import Drove
    from serve.replay.session import Session
    from serve.replay.timeline import Timeline

    other = Engine.open(example_as(tmp_path, "0.2.0"), device="cpu")
    session = Session(
        {engine.digest: engine.card},
        lambda _: (engine, ""),
        lambda _: Drove(None),
        other,
        timeline=Timeline(BEGAN, BEGAN + 20 * TICK),
    )
    table = driven(engine, ["a", episode])
    values = np.array(table["action"].to_pylist(), np.float32)
    values[3, 2] = -values[3, 2] + 0.25
    column = pa.FixedSizeListArray.from_arrays(values.reshape(-1), 3)
    for batch in batches(table.set_column(table.schema.get_field_index("action"), "action", column)):
        session.add(batch)
    return session.result("recordings", 3, False)


def test_the_report_is_one_file_that_asks_no_host_for_anything(engine: Engine, tmp_path: Path):
    text = as_html(compared(engine, tmp_path))
    page = check_asks_nobody(text)
    assert page.references == []
    assert page.tags.count("svg") == 4  # a distribution and a timeline for steering, and for acceleration
    for told in ("racetrack-policy 0.2.0", "Brake against throttle", "The worst moments", "the recording lost 3 rows"):
        assert told in text


def test_the_report_shows_texts_of_the_recording_as_texts(engine: Engine, tmp_path: Path):
    text = as_html(compared(engine, tmp_path, "<script>alert(1)</script>\x1b[31m"))
    assert "<script" not in text
    assert "&lt;script&gt;" in text
    assert "\x1b" not in text


def test_a_result_is_plain_json(engine: Engine, tmp_path: Path):
    document = json.loads(msgspec.json.encode(compared(engine, tmp_path).as_json()))
    [moment] = document["compared"]["worst"]
    assert (moment["episode"], moment["frame"]) == ("b", 1)
    assert set(moment["recorded"]) == {"throttle", "brake", "steer"}
    assert document["lost"] == 3
