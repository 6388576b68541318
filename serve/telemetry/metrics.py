"""The metrics of GET /metrics, summed over the workers; there are few of them, and their labels have few values.

Counters are kept in prometheus_client's files, one per process (PROMETHEUS_MULTIPROC_DIR, set before this is imported).
The current state is read from the files in the run folder.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import REGISTRY, Collector

from carla_mlflow.contract.answer import AnswerColumn
from serve.run_folder import FOLLOW_FILE, Followed, read_file, worker_states
from serve.telemetry.buckets import ActionCounts, Buckets, LabelledBuckets, choice_label, minute_key
from serve.telemetry.dead_counters import reading
from serve.telemetry.half_hour import grown
from serve.telemetry.metrics_buffer import Metrics as TallyMetrics
from serve.telemetry.metrics_buffer import MetricsBuffer
from serve.telemetry.processes import Processes
from serve.telemetry.recent_counts import RecentCounts
from serve.telemetry.shadow_metrics import ShadowMetrics
from serve.telemetry.version_names import VERSIONS

if TYPE_CHECKING:
    from carla_mlflow.inference.result_cache import ResultCache

MULTIPROCESS_FOLDER = "PROMETHEUS_MULTIPROC_DIR"
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
SECONDS = (0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.0125, 0.02, 0.025, 0.05, 0.1, 0.2, 0.25, 0.5, 1.0, 5.0)
"""Bounds at which people set limits, so that a share above one is counted, not estimated: round ones, the periods of
20, 10 and 5 Hz, and a quarter of the first two, which the latency gate allows."""
ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)
TENTHS = tuple(round(-1 + 0.1 * step, 1) for step in range(21))
CHANGES = (0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1.0, 1.5, 2.0)
PARTS = ("queue", "decode", "inference", "total")

REQUESTS = Counter("policy_requests_total", "Requests answered.", ("route", "code", "version"))
ACTIONS = Counter("policy_actions_total", "Actions given, one an observation.", ("version",))
LATENCY = Histogram(
    "policy_latency_seconds",
    "Latency of predictions by part: queue, decode, inference (the forward pass, shared by a batch), and total.",
    ("part", "version"),
    buckets=SECONDS,
)
BATCH_ROWS = Histogram("policy_batch_rows", "Observations in one forward pass.", buckets=ROWS)
ACTION = Histogram(
    "policy_action",
    "Values that were given: as they are if their bounds lie inside [-1, 1], as throttle, brake and steer; others "
    "brought from their bounds to [-1, 1].",
    ("dimension", "version"),
    buckets=TENTHS,
)
CHOICES = Counter("policy_choices_total", "Choices that were given.", ("dimension", "choice", "version"))
CHANGE = Histogram(
    "policy_action_change",
    "How much steer and acceleration (throttle - brake), where the policy answers them, differ from the episode's "
    "previous action on its connection.",
    ("dimension", "version"),
    buckets=CHANGES,
)
SATURATED = Counter(
    "policy_saturated_total",
    "Values that were given at their upper bound, or at a lower bound below 0: full pedal, full lock.",
    ("dimension", "version"),
)
OUT_OF_RANGE = Counter(
    "policy_out_of_range_total",
    "Values outside the range in training or, where that is unknown, the inner 99 % of the bounds.",
    ("field", "version"),
)
FALLBACKS = Counter(
    "policy_fallbacks_total",
    "Predictions that got the card's fallback instead of an action, or whose connection was closed.",
    ("reason", "version"),
)
SWAPS = Counter("policy_swaps_total", "Times that a worker began to serve another version.")
REFUSED = Counter("policy_refusals_total", "Times that a version was refused.", ("reason",))
UNUSABLE = Counter("policy_unusable_actions_total", "Requests for which a policy gave no usable action.", ("version",))
CACHED = Counter("policy_result_cache_rows_total", "Observations looked up in the result cache.", ("outcome",))
RECORDED = Counter("policy_recorded_rows_total", "Observations that were recorded: they are in a finished file.")
RECORD_DROPPED = Counter(
    "policy_record_dropped_total",
    "Observations that were to be recorded, but are lost: ring_full, disk_full, writer_ended or failed.",
    ("reason",),
)
IN_FLIGHT = Gauge("policy_in_flight", "Requests that are being answered.", multiprocess_mode="livesum")

BUFFER = MetricsBuffer(
    TallyMetrics(
        REQUESTS,
        FALLBACKS,
        ACTIONS,
        SATURATED,
        OUT_OF_RANGE,
        LabelledBuckets(LATENCY, SECONDS),
        Buckets(BATCH_ROWS, ROWS),
        ActionCounts(ACTION, CHOICES, TENTHS),
        LabelledBuckets(CHANGE, CHANGES),
    ),
    RecentCounts(MULTIPROCESS_FOLDER),
)

_counting = threading.Lock()
_counted: dict[int, tuple[int, int]] = {}


def count_cache(cache: ResultCache) -> None:
    """Counts the hits and misses of a result cache since the last call."""
    with _counting:
        if id(cache) not in _counted:
            _counted.clear()  # drops versions that are no longer served
        hits, misses = _counted.get(id(cache), (0, 0))
        _counted[id(cache)] = (cache.hits, cache.misses)
        CACHED.labels("hit").inc(max(cache.hits - hits, 0))
        CACHED.labels("miss").inc(max(cache.misses - misses, 0))


def last_minute(columns: tuple[AnswerColumn, ...]) -> dict[str, list[tuple[float | str | None, int]]]:
    """Returns the counts of the last minute over all workers.

    Args:
        columns: of the policy's actions.

    Returns:
        `latency`, in seconds, and each of the columns: (upper bound or None, count) for continuous values, (label or
        index, count) for choices. Values that are never negative, such as throttle, have no buckets below 0.
    """
    counts = BUFFER.last_minute()
    latency, actions = counts.get("latency", {}).get("total"), counts.get("actions", {})
    found: dict[str, list[tuple[float | str | None, int]]] = {"latency": _pairs(SECONDS, latency, 0.0)}
    for column in columns:
        known = actions.get(minute_key(column))
        if column.choices:
            labels = [choice_label(column, index) for index in range(column.choices)]
            found[column.name] = list(zip(labels, known or [0] * column.choices, strict=True))
        else:
            found[column.name] = _pairs(TENTHS, known, column.low if column.is_unit else -1.0)
    return found


def _pairs(
    bounds: Sequence[float], counts: Sequence[int] | None, lowest: float
) -> list[tuple[float | str | None, int]]:
    pairs = zip([*bounds, None], counts or [0] * (len(bounds) + 1), strict=True)
    return [(bound, count) for bound, count in pairs if bound is None or bound >= lowest]


class ServerState(Collector):
    """Gauges of the current state: which versions are served, and whether the registry answers."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def collect(self) -> Iterator[Metric]:
        """Yields the gauges, read from the run folder."""
        info = GaugeMetricFamily(
            "policy_model_info",
            "Versions that are served.",
            labels=("name", "version", "digest", "stage", "backend", "device"),
        )
        states = worker_states(self._folder)
        served = {
            (v.name, v.version, v.digest, v.stage or "", v.backend, v.device)
            for state in states
            for v in state.answering
        }
        for labels in sorted(served):
            info.add_metric(labels, 1)
        yield info
        held = GaugeMetricFamily(
            "policy_held_versions",
            "Older versions that are held for the episodes that they began.",
            labels=("name",),
        )
        names = {v.name for state in states for v in (*state.answering, *state.held)}
        kept = {(v.name, v.digest) for state in states for v in state.held}
        for name in sorted(names):
            held.add_metric((name,), sum(each[0] == name for each in kept))
        yield held
        followed = read_file(self._folder / FOLLOW_FILE, Followed)
        if followed is not None and followed.canary is not None:
            share = GaugeMetricFamily(
                "policy_canary_share",
                "Percent of the episodes that begin with the canary here; 0 while it is loading or refused.",
                labels=("version",),
            )
            canary = followed.canary
            is_answering = any(state.canary and state.canary.digest == canary.digest for state in states)
            if canary.version is not None:
                share.add_metric((canary.version,), followed.canary_share if is_answering else 0.0)
            yield share
        if followed is not None:
            yield GaugeMetricFamily(
                "policy_registry_up", "Whether the registry answered the last poll.", followed.registry == "ok"
            )
            yield GaugeMetricFamily(
                "policy_registry_answered_timestamp_seconds",
                "When the registry answered last.",
                followed.polled_at or 0.0,
            )


class OfVersions(Collector):
    """The counters of another collector without the series of versions that have no label of their own any more."""

    def __init__(self, collector: Collector, past: Path | None = None) -> None:
        """`past` is the counter folder, to show only how much was counted in the last half hour; None for all."""
        self._collector, self._past = collector, past

    def collect(self) -> Iterator[Metric]:
        """Yields the metrics."""
        every, shown = self._collector.collect(), VERSIONS.shown()
        for metric in every if self._past is None else grown(every, self._past):
            if metric.name.startswith("policy_"):
                metric.samples = [sample for sample in metric.samples if sample.labels.get("version", "") in shown]
            yield metric


def render(folder: Path, half_hour: bool = False) -> bytes:
    """Returns all metrics in Prometheus's text format.

    Args:
        folder: the server's run folder.
        half_hour: returns only the counters, and of them what was counted in the last half hour.
    """
    BUFFER.flush()
    registry = CollectorRegistry()
    counters = Path(os.environ[MULTIPROCESS_FOLDER]) if MULTIPROCESS_FOLDER in os.environ else None
    if not half_hour:
        registry.register(ServerState(folder))
        registry.register(ShadowMetrics(folder))
    if counters is None:
        registry.register(OfVersions(REGISTRY))
        return generate_latest(registry)
    if not half_hour:
        registry.register(Processes(folder))
    every = MultiProcessCollector(None)  # type: ignore[no-untyped-call]
    registry.register(OfVersions(every, counters if half_hour else None))
    with reading(counters):
        return generate_latest(registry)
