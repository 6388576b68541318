"""The files of a recording: minutes, merged by the hour, the oldest deleted; every damage found and named."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from recording_support import Recording, numbers, same_bits, served, table_of

from serve.record.chain import recorded_paths
from serve.record.file_info import read_file_info
from serve.record.head_file import HEAD, read_head
from serve.record.recording_file import RecordingFile
from serve.record.ring import rings_in


@pytest.fixture
def make(tmp_path: Path, example: Path) -> Callable[..., Recording]:
    serving = served(tmp_path, example)
    return lambda **settings: Recording(tmp_path, serving, settings)


def record(recording: Recording, minutes: int, rows: int = 20) -> None:
    """Some rows in each of some minutes, the last of which is not over yet."""
    rng = np.random.default_rng(0)
    for _ in range(minutes):
        drawn = {spec.name: spec.sample(rng, rows) for spec in recording.serving.engine.specs}
        for row in range(rows):
            recording.predict([[{name: array[row] for name, array in drawn.items()}]], ["one"])
        recording.write()
        recording.write(1.0)


def names(recording: Recording) -> list[str]:
    [node] = recording.read().nodes
    return sorted(str(path.relative_to(node)) for path in node.glob("*/*.parquet"))


def answered(recording: Recording) -> np.ndarray:
    return np.concatenate([prediction.answered.actions.control for prediction in recording.asked])


def test_a_file_is_a_minute_and_an_hour_that_is_over_becomes_one_file(make: Callable[..., Recording]):
    recording = make()
    record(recording, 3)
    assert names(recording) == [f"2026-03-01/120{minute}-{minute + 1}.parquet" for minute in range(3)]
    before = table_of(recording.read())
    recording.write(60)
    for _ in range(20):
        recording.write()
    assert names(recording) == ["2026-03-01/12-4.parquet"]
    found = recording.end()
    assert table_of(found).equals(before)
    assert same_bits(numbers(before, "action"), answered(recording))
    assert (found.verify(), found.rows, read_head(found.nodes[0]).rows) == ([], 60, 60)
    info = read_file_info(found.files[0].path).info
    assert sorted(info.replaces) == [1, 2, 3]


def test_a_flipped_bit_in_any_file_is_found_and_named(make: Callable[..., Recording]):
    recording = make()
    record(recording, 4)
    found, draw = recording.end(), random.Random(0)
    assert found.verify() == []
    for file in found.files:
        whole = file.path.read_bytes()
        for place in (0, 4, len(whole) - 1, *(draw.randrange(len(whole)) for _ in range(20))):
            file.path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
            damages = recording.read().verify()
            assert [damage.path for damage in damages] == [file.path], place
        file.path.write_bytes(whole)
    assert recording.read().verify() == []


def test_without_head_the_links_in_the_footers_still_name_the_damaged_file(make: Callable[..., Recording]):
    recording = make()
    record(recording, 3)
    found = recording.end()
    (found.nodes[0] / HEAD).unlink()
    assert [damage.path.name for damage in recording.read().verify()] == [HEAD]
    path = found.files[0].path
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    assert {damage.path.name for damage in recording.read().verify()} == {HEAD, path.name}


def test_a_damaged_file_is_not_merged_so_that_it_is_still_named(make: Callable[..., Recording]):
    recording = make()
    record(recording, 3)
    path = recording.read().files[1].path
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    recording.write(60)
    for _ in range(20):
        recording.write()
    assert names(recording) == ["2026-03-01/12-4.parquet", str(path.relative_to(path.parent.parent))]
    assert [damage.path for damage in recording.end().verify()] == [path]


def test_a_file_that_can_not_be_read_is_left_and_the_writer_goes_on(make: Callable[..., Recording]):
    recording = make()
    record(recording, 3)
    path = recording.read().files[1].path
    path.unlink()
    path.mkdir()  # reading it fails, for root too
    recording.write(60)
    for _ in range(20):
        recording.write()
    record(recording, 1)
    assert names(recording)[0] == "2026-03-01/12-4.parquet"
    found = recording.end()
    assert found.rows == 60
    assert [damage.path for damage in found.verify()] == [path]


def test_a_recording_that_is_written_on_while_it_is_verified_is_not_called_damaged(
    make: Callable[..., Recording], monkeypatch: pytest.MonkeyPatch
):
    recording = make()
    record(recording, 3)
    listed = recorded_paths

    def and_then_merged(node: Path) -> list[Path]:
        found = listed(node)
        recording.write(60)
        for _ in range(20):
            recording.write()
        return found

    monkeypatch.setattr("serve.record.chain.recorded_paths", and_then_merged)
    assert recording.read().verify() == []
    assert names(recording) == ["2026-03-01/12-4.parquet"]
    recording.end()


def test_files_that_are_missing_or_were_put_there_are_named(make: Callable[..., Recording]):
    recording = make()
    record(recording, 3)
    found = recording.end()
    first, second, _ = (file.path for file in found.files)
    first.rename(first.with_name("1159-1.parquet"))
    second.unlink()
    damages = {damage.path.name: damage.problem for damage in recording.read().verify()}
    assert damages[first.name] == damages[second.name] == "is missing"
    assert damages["1159-1.parquet"].startswith("is no link of the chain")


def test_the_oldest_files_are_deleted_and_the_others_stay_a_chain(make: Callable[..., Recording]):
    recording = make(record_max_gb=0.001)
    rng = np.random.default_rng(0)
    for _ in range(8):
        for _ in range(6):
            drawn = {spec.name: spec.sample(rng, 1024) for spec in recording.serving.engine.specs}
            recording.predict([[{name: array[row] for name, array in drawn.items()} for row in range(1024)]])
            recording.write()
        recording.write(1.0)
    found = recording.end()
    assert found.verify() == []
    assert 0 < sum(file.path.stat().st_size for file in found.files) <= 1_000_000
    assert found.rows < 8 * 6 * 1024 == read_head(found.nodes[0]).rows
    assert same_bits(numbers(table_of(found), "action"), answered(recording)[-found.rows :])


def test_a_writer_that_is_gone_loses_nothing_that_the_ring_has(make: Callable[..., Recording]):
    recording = make()
    record(recording, 2)
    record(recording, 1)
    recording.predict([[{"speed": 1.0, "steering": 0.0, "sensors": [0.5] * 12}]])
    recording.write()
    recording.writer._node.close()  # what remains of a process that was killed: an unfinished file
    assert list(recording.records.glob("*/*/.*.tmp"))
    recording.writer = recording.new_writer()
    assert not list(recording.records.glob("*/*/.*.tmp"))
    found = recording.end()
    table = table_of(found)
    assert table["sequence"].to_pylist() == list(range(61))
    assert same_bits(numbers(table, "action"), answered(recording))
    assert (found.lost, found.verify()) == (0, [])


def test_a_finished_file_that_is_not_in_head_yet_is_taken_in(make: Callable[..., Recording]):
    recording = make()
    record(recording, 1)
    [node] = recording.read().nodes
    head = (node / HEAD).read_bytes()
    record(recording, 1)
    recording.writer._node.close()
    (node / HEAD).write_bytes(head)
    recording.writer = recording.new_writer()
    record(recording, 1)
    found = recording.end()
    assert table_of(found)["sequence"].to_pylist() == list(range(60))
    assert (found.lost, found.verify(), len(found.files)) == (0, [], 3)


def test_what_the_ring_has_no_more_is_counted_to_the_row(make: Callable[..., Recording]):
    recording = make()
    rows = [{"speed": 1.0, "steering": 0.0, "sensors": [0.5] * 12}] * 1024
    recording.predict([rows])
    recording.write()
    recording.writer._node.close()
    for _ in range(30):
        recording.predict([rows])
        recording.recorder.flush()
    recording.writer = recording.new_writer()
    recording.predict([rows])
    found = recording.end()
    lost = read_head(found.nodes[0]).lost
    assert set(lost) == {"ring_full"}  # nothing was in a file yet: the new writer does not know of the one before
    assert 0 < lost["ring_full"] == 32 * 1024 - found.rows == found.lost
    sequence = table_of(found)["sequence"].to_pylist()
    assert sequence == list(range(32 * 1024 - found.rows, 32 * 1024))


def test_rows_that_a_dead_writer_left_in_no_file_are_counted_as_that(make: Callable[..., Recording]):
    recording = make()
    record(recording, 1)
    rows = [{"speed": 1.0, "steering": 0.0, "sensors": [0.5] * 12}] * 1024
    recording.predict([rows])
    recording.write()
    recording.writer._node.close()
    for _ in range(30):
        recording.predict([rows])
        recording.recorder.flush()
    recording.writer = recording.new_writer()
    found = recording.end()
    lost = read_head(found.nodes[0]).lost
    assert set(lost) == {"writer_ended"}
    assert lost["writer_ended"] == 20 + 31 * 1024 - found.rows
    assert found.verify() == []


def test_rings_of_ended_workers_are_freed_once_their_rows_are_in_files(make: Callable[..., Recording]):
    recording = make()
    record(recording, 1)
    recording.recorder.close()
    assert rings_in(recording.rings)
    recording.writer.step(recording.now)
    recording.writer.stop()
    assert rings_in(recording.rings) == []


def test_any_reader_of_parquet_can_read_the_files(make: Callable[..., Recording]):
    recording = make()
    record(recording, 1)
    [file] = recording.end().files
    table = pq.read_table(file.path)
    assert table.num_rows == 20
    assert pa.types.is_list(table.schema.field("observation.sensors").type)
    metadata = pq.read_metadata(file.path).metadata
    assert metadata[b"carla-mlflow.recording"] == b"1"
    assert metadata[f"card:{recording.serving.digest}".encode()] == recording.serving.engine.card_bytes


def test_a_file_that_was_given_up_writes_nothing_more(tmp_path: Path):
    schema = pa.schema([("timestamp", pa.int64())])
    file = RecordingFile(tmp_path / "unfinished", schema)
    file.drop()
    with open(tmp_path / "another", "wb") as other:  # gets the descriptor that the first had
        del file  # pyarrow's writer ends its file
        other.flush()
    assert (tmp_path / "another").read_bytes() == b""


def test_all_that_lies_in_the_rings_is_written_when_the_writer_ends(tmp_path: Path, example: Path):
    recording = Recording(tmp_path, served(tmp_path, example), ring_bytes=32 << 20)
    rng = np.random.default_rng(0)
    drawn = {spec.name: spec.sample(rng, 1000) for spec in recording.serving.engine.specs}
    rows = [{name: array[row] for name, array in drawn.items()} for row in range(1000)]
    for _ in range(90):  # twice what the writer takes at a time
        recording.predict([rows])
    recording.recorder.close()
    recording.writer.stop()
    assert (recording.read().rows, recording.read().lost) == (90_000, 0)
