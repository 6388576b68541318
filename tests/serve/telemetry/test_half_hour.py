"""What a server counted in its last half hour is told, whoever counted it."""

from __future__ import annotations

from pathlib import Path

import pytest
from prometheus_client.mmap_dict import MmapedDict, mmap_key
from prometheus_client.multiprocess import MultiProcessCollector

from serve.telemetry.half_hour import grown, keep

MINUTE = 60.0


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "counters.lock").touch()
    return tmp_path


def count(folder: Path, pid: int, version: str, value: float) -> None:
    """As a worker's process does, by prometheus_client's own means."""
    file = MmapedDict(str(folder / f"counter_{pid}.db"))
    file.write_value(mmap_key("asked", "asked_total", ["version"], [version], "Asked."), value, 0.0)
    file.close()


def told(folder: Path, now: float) -> dict[str, float]:
    every = grown(MultiProcessCollector(None, str(folder)).collect(), folder, now)
    return {sample.labels["version"]: sample.value for metric in every for sample in metric.samples}


def test_a_young_server_tells_all_that_it_counted(folder: Path):
    count(folder, 1, "0.1.0", 7)
    keep(folder, 0.0)
    assert told(folder, 10 * MINUTE) == {"0.1.0": 7}


def test_what_is_older_than_half_an_hour_is_left_out(folder: Path):
    for minute in range(61):
        count(folder, 1, "0.1.0", 100 * minute)
        count(folder, 2, "0.2.0", minute)
        keep(folder, minute * MINUTE)
    assert told(folder, 60 * MINUTE) == {"0.1.0": 3000, "0.2.0": 30}
    assert len(list(folder.glob("past-*.json"))) == 31


def test_a_version_that_began_meanwhile_counts_from_nothing(folder: Path):
    count(folder, 1, "0.1.0", 50)
    keep(folder, 0.0)
    count(folder, 1, "0.2.0", 4)
    assert told(folder, 31 * MINUTE) == {"0.1.0": 0, "0.2.0": 4}


def test_the_counters_are_written_down_once_a_minute(folder: Path):
    count(folder, 1, "0.1.0", 1)
    for second in range(0, 121, 5):
        keep(folder, float(second))
    assert len(list(folder.glob("past-*.json"))) == 3
