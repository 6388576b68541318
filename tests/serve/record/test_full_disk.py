"""A disk that takes nothing: rows wait in the ring as long as it has room, and what it has no more is counted."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from recording_support import Recording, served, table_of

from serve.record.head_file import read_head

ROWS = 1000


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A folder of 256 kB."""
    if subprocess.run(["unshare", "--mount", "true"], stderr=subprocess.DEVNULL).returncode:
        pytest.skip("mounting a small disk is not allowed here")
    folder = tmp_path / "records"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(folder)], check=True)
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.fixture
def recording(tmp_path: Path, small_disk: Path, example: Path) -> Recording:
    return Recording(tmp_path, served(tmp_path, example))


def predict(recording: Recording, seed: int) -> None:
    rng = np.random.default_rng(seed)
    drawn = {spec.name: spec.sample(rng, ROWS) for spec in recording.serving.engine.specs}
    recording.predict([[{name: array[row] for name, array in drawn.items()} for row in range(ROWS)]])


def enlarge(folder: Path) -> None:
    subprocess.run(["mount", "-o", "remount,size=100m", str(folder)], check=True)


def test_rows_that_the_ring_still_has_when_there_is_room_again_are_not_lost(recording: Recording):
    (recording.records / "ballast").write_bytes(bytes(240_000))
    for seed in range(4):
        predict(recording, seed)
        recording.write(1.0)
    enlarge(recording.records)
    recording.write(1.0)
    found = recording.end()
    assert table_of(found)["sequence"].to_pylist() == list(range(4 * ROWS))
    assert (found.lost, found.verify()) == (0, [])


def test_rows_that_the_ring_has_no_more_are_counted_to_the_row(recording: Recording):
    predict(recording, 0)
    recording.write(1.0)
    recording.write(1.0)
    (recording.records / "ballast").write_bytes(bytes(100_000))
    for seed in range(1, 30):
        predict(recording, seed)
        recording.write(1.0)
    assert not list(recording.records.glob("*/*/.*.tmp"))
    enlarge(recording.records)
    recording.write(1.0)
    predict(recording, 30)
    found = recording.end()
    lost = read_head(found.nodes[0]).lost
    assert set(lost) == {"disk_full"}
    assert lost["disk_full"] + found.rows == 31 * ROWS
    assert found.verify() == []
    sequence = table_of(found)["sequence"].to_pylist()
    assert np.diff([-1, *sequence]).min() == 1
    assert (np.diff([-1, *sequence]) - 1).sum() == lost["disk_full"] > 0


def test_a_writer_that_ends_on_a_full_disk_counts_what_it_leaves(recording: Recording):
    predict(recording, 0)
    recording.write(1.0)
    recording.write(1.0)
    (recording.records / "ballast").write_bytes(bytes(180_000))
    for seed in range(1, 4):
        predict(recording, seed)
    found = recording.end()
    assert found.rows == ROWS
    assert recording.writer._node.head.lost == {"disk_full": 3 * ROWS}
