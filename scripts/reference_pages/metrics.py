"""The metrics: the counters as the server declares them, and what its collectors give for a run folder."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from prometheus_client.metrics import MetricWrapperBase
from prometheus_client.registry import Collector

from reference_pages.markdown import code, table, words
from serve.run_folder import FOLLOW_FILE, MASTER, Followed, Served, Status, WorkerState, worker_file, write_file
from serve.telemetry import metrics
from serve.telemetry.processes import Processes
from serve.telemetry.shadow_metrics import ShadowMetrics
from serve.telemetry.shadow_report import Counts, Distribution, ShadowLife, ShadowReport, life_file, report_file


class Described(NamedTuple):
    """One metric."""

    name: str
    kind: str
    labels: tuple[str, ...]
    text: str


def every_metric() -> str:
    """A table, by name."""
    found = {each.name: each for each in (*_counted(), *_collected())}
    rows = [
        [code(each.name), each.kind, ", ".join(map(code, each.labels)), words(each.text)]
        for each in sorted(found.values())
    ]
    return table(["name", "kind", "labels", "meaning"], rows)


def _name(name: str, kind: str) -> str:
    return f"{name}_total" if kind == "counter" else name


def _counted() -> Iterator[Described]:
    """What requests change."""
    for each in vars(metrics).values():
        if isinstance(each, MetricWrapperBase):
            kind = str(each._type)
            yield Described(_name(each._name, kind), kind, tuple(each._labelnames), each._documentation)


def _collected() -> Iterator[Described]:
    """What is read from a run folder: this process is its master and a worker, which has everything to tell."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        _fill(folder)
        every: list[Collector] = [metrics.ServerState(folder), Processes(folder), ShadowMetrics(folder)]
        for collector in every:
            for metric in collector.collect():
                labels = tuple(dict.fromkeys(key for s in metric.samples for key in s.labels if key != "le"))
                yield Described(_name(metric.name, metric.type), metric.type, labels, metric.documentation)


def _fill(folder: Path) -> None:
    version = Served("0.1.0", "", "production", "mine@production", "mine")
    write_file(folder / MASTER, os.getpid())
    write_file(worker_file(folder, os.getpid()), WorkerState((version,), held=(version,), canary=version, ready=True))
    write_file(folder / FOLLOW_FILE, Followed(polled_at=0.0, canary=Status(version="0.1.0", digest="")))
    life_file(folder).parent.mkdir()
    counts = Counts(differences={"steer": Distribution()})
    write_file(life_file(folder), ShadowLife("mine@staging", 1.0, 0.0))
    write_file(report_file(folder), ShadowReport(version="0.2.0", counts=counts, skipped={"restart": 0}))
