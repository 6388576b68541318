"""What a server counted in its last half hour: its counters now, less what they were then.

The follower, which answers no requests, writes the counters down once a minute. A server without one, or younger than
that, tells all that it has counted since it started.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from prometheus_client.core import Metric
from prometheus_client.multiprocess import MultiProcessCollector

from serve.run_folder import read_file, write_file
from serve.telemetry.dead_counters import reading

HALF_HOUR_S, EVERY_S = 1800.0, 60.0
_COUNTED = ("counter", "histogram")

Counts = dict[str, float]
"""Name and labels of a sample, as text → its value."""


def keep(folder: Path, now: float | None = None) -> None:
    """Writes the counters down if that is due, and removes what is older than needed.

    Args:
        folder: the server's counter folder.
        now: seconds on the monotonic clock, which all processes of a machine share; None for its time.
    """
    now = time.monotonic() if now is None else now
    kept = _kept(folder)
    if kept and now - max(kept) < EVERY_S:
        return
    with reading(folder):
        found = MultiProcessCollector(None, str(folder)).collect()  # type: ignore[no-untyped-call]
    counted = {_key(sample.name, sample.labels): sample.value for metric in found for sample in _samples(metric)}
    write_file(folder / f"past-{now:.0f}.json", counted)
    for when in sorted(when for when in kept if now - when >= HALF_HOUR_S)[:-1]:
        kept[when].unlink(missing_ok=True)


def grown(metrics: Iterable[Metric], folder: Path, now: float | None = None) -> Iterator[Metric]:
    """Yields the counters and histograms, with what was counted in the last half hour alone.

    Args:
        metrics: as they are now.
        folder: the server's counter folder.
        now: as of `keep`.
    """
    now = time.monotonic() if now is None else now
    kept = _kept(folder)
    then = max((when for when in kept if now - when >= HALF_HOUR_S), default=None)
    before: Counts = {} if then is None else read_file(kept[then], dict[str, float]) or {}
    for metric in metrics:
        if samples := _samples(metric):
            metric.samples = [s._replace(value=s.value - before.get(_key(s.name, s.labels), 0.0)) for s in samples]
            yield metric


def _kept(folder: Path) -> dict[float, Path]:
    return {float(path.stem.removeprefix("past-")): path for path in folder.glob("past-*.json")}


def _samples(metric: Metric) -> list[Any]:
    return list(metric.samples) if metric.type in _COUNTED else []


def _key(name: str, labels: dict[str, str]) -> str:
    return f"{name}{sorted(labels.items())}"
