"""Buffers a worker's counts as plain numbers, and flushes them to prometheus_client ten times a second.

One increment in prometheus_client costs as much as a tenth of a request. A killed worker loses the counts of its last
tenth of a second.
"""

from __future__ import annotations

import threading
from collections import Counter as Numbers
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from prometheus_client import Counter

from carla_mlflow.contract.answer import AnswerColumn
from carla_mlflow.contract.array_spec import ArraySpec
from registry.rules.figures import PREDICTION_ROUTES
from serve.errors import STATUS
from serve.telemetry.buckets import ActionCounts, Buckets, LabelledBuckets
from serve.telemetry.recent_counts import Counts, RecentCounts, Snapshot, minute_of, read_all
from serve.telemetry.version_names import VERSIONS

MAX_ROWS, MAX_BATCHES, MAX_ANSWERS = 512, 128, 512
"""Most rows, forwards and answers that wait to be counted: counting more at once would delay a request."""

CHANGE_NAMES = ("steer", "acceleration")
"""What is compared between two actions of an episode; acceleration is throttle - brake."""


def _at_bound(column: AnswerColumn, values: NDArray[np.float32]) -> int:
    """How many values are full pedal or full lock, or at either bound of something else; a free pedal is neither."""
    high, low = np.float32(column.high), np.float32(column.low)
    at_high = np.count_nonzero(values >= high)
    return int(at_high + np.count_nonzero((values <= low) & (values < high))) if low < 0 else int(at_high)


class ForwardRecord(NamedTuple):
    """One forward, to be counted later: its policy's version, its duration, its observations, actions and columns."""

    version: str
    inference_s: float
    specs: tuple[ArraySpec, ...]
    observations: Mapping[str, NDArray[Any]]
    control: NDArray[np.float32]
    columns: tuple[AnswerColumn, ...]


class Metrics(NamedTuple):
    """The metrics that the counts are flushed to; the last label of each but `rows` is the version."""

    requests: Counter
    fallbacks: Counter
    actions: Counter
    saturated: Counter
    out_of_range: Counter
    parts: LabelledBuckets
    rows: Buckets
    dimensions: ActionCounts
    changes: LabelledBuckets


class MetricsBuffer:
    """The buffered counts of one worker. Safe to call from several threads."""

    def __init__(self, metrics: Metrics, recent: RecentCounts) -> None:
        self._metrics, self._recent = metrics, recent
        self._lock = threading.Lock()
        self._answers: list[tuple[tuple[str, int, str], float | None, float | None, float | None]] = []
        self._actions: Numbers[str] = Numbers()
        self._requests: Numbers[tuple[str, int, str]] = Numbers()
        self._forwards: list[ForwardRecord] = []
        self._rows = 0
        self._changes: dict[str, list[tuple[NDArray[np.float32], NDArray[np.float32]]]] = {}  # by version
        self._changed_rows = 0

    def answered(
        self,
        route: str,
        code: int,
        version: str,
        queue_s: float | None = None,
        total_s: float | None = None,
        decode_s: float | None = None,
    ) -> None:
        """Counts one response; for a prediction also the seconds that it waited, took in total, and took to decode."""
        self._answers.append(((route, code, version), queue_s, total_s, decode_s))  # atomic: no lock is needed

    def acted(self, record: ForwardRecord) -> None:
        """Counts one forward."""
        with self._lock:
            self._forwards.append(record)
            self._rows += len(record.control)
            if self._rows > MAX_ROWS or len(self._forwards) > MAX_BATCHES:
                self._count_forwards()
            if len(self._answers) > MAX_ANSWERS:
                self._count_answers()

    def changed(self, version: str, before: NDArray[np.float32], after: NDArray[np.float32]) -> None:
        """Counts the change from an episode's previous action to the latest, both (B, 3), with NaN for the unknown."""
        with self._lock:
            self._changes.setdefault(version, []).append((before, after))
            self._changed_rows += len(after)
            if self._changed_rows > MAX_ROWS:
                self._count_changes()

    def flush(self) -> None:
        """Flushes everything to prometheus_client."""
        with self._lock:
            self._count_changes()
            self._count_forwards()
            self._count_answers()
            for (route, code, version), count in self._requests.items():
                label = VERSIONS.label(version)
                self._metrics.requests.labels(route, code, label).inc(count)
                if route in PREDICTION_ROUTES:  # probes, scrapes and the server's page are none
                    self._recent.add("codes", str(code), [count])
                if code == STATUS["deadline_exceeded"]:
                    self._metrics.fallbacks.labels("deadline_exceeded", label).inc(count)
            self._requests.clear()
            for version, rows in self._actions.items():
                self._metrics.actions.labels(version).inc(rows)
            self._actions.clear()
            self._recent.add("latency", "total", self._metrics.parts.counts().get("total", ()))
            for name, counts in self._metrics.dimensions.counts.items():
                self._recent.add("actions", name, counts)
            self._recent.turn()
            self._metrics.dimensions.flush()
            self._metrics.parts.flush()
            self._metrics.changes.flush()
            self._metrics.rows.flush()

    def last_minute(self) -> Counts:
        """Returns the counts of all workers in the last minute, by the sections that `recent` has."""
        return minute_of(self._snapshot())

    @property
    def began(self) -> int:
        """The slot in which counting began."""
        return self._recent.began

    def recent(self, after: int = 0) -> dict[int, Counts]:
        """Returns the counts of all workers by slot, as `read_all` does.

        Their sections: `codes` of predictions, `latency`, `actions` by `minute_key`, and, each as (events, values),
        `saturated` by column and `outside` by field.
        """
        return read_all(self._snapshot(), after)

    def _snapshot(self) -> Snapshot:
        self.flush()
        with self._lock:  # for so long only: forwards wait for it
            return self._recent.snapshot()

    def _count_answers(self) -> None:
        answers = self._answers[:]  # a copy: other threads may append
        del self._answers[: len(answers)]
        self._requests.update([answer[0] for answer in answers])
        versions = {answer[0][2] for answer in answers}
        for version in versions:
            label = VERSIONS.label(version)
            of_it = answers if len(versions) == 1 else [each for each in answers if each[0][2] == version]
            for column, part in ((1, "queue"), (2, "total"), (3, "decode")):
                seconds = [answer[column] for answer in of_it if answer[column] is not None]
                if seconds:
                    self._metrics.parts.add((part, label), np.array(seconds, dtype=np.float64))

    def _count_changes(self) -> None:
        changes, self._changes, self._changed_rows = self._changes, {}, 0
        for version, of_it in changes.items():
            before, after = (np.concatenate(parts) for parts in zip(*of_it, strict=True))
            throttle, brake, steer = (after - before).T
            label = VERSIONS.label(version)
            for name, change in zip(CHANGE_NAMES, (steer, throttle - brake), strict=True):
                self._metrics.changes.add((name, label), np.abs(change[~np.isnan(change)]))

    def _count_forwards(self) -> None:
        """Counts the policy's actions, and the observations outside the range that it is used to."""
        forwards, self._forwards, self._rows = self._forwards, [], 0
        if not forwards:
            return
        self._metrics.rows.add(np.array([len(batch.control) for batch in forwards]))
        for version in {batch.version for batch in forwards}:
            of_it = [batch for batch in forwards if batch.version == version]
            label = VERSIONS.label(version)
            self._actions[label] += sum(len(batch.control) for batch in of_it)
            self._metrics.parts.add(("inference", label), np.array([batch.inference_s for batch in of_it]))
            self._count_actions(label, of_it)
            self._count_observations(label, of_it)

    def _count_actions(self, label: str, forwards: Sequence[ForwardRecord]) -> None:
        for columns in {id(batch.columns): batch.columns for batch in forwards}.values():
            control = _joined([batch.control for batch in forwards if batch.columns is columns])
            self._metrics.dimensions.add(label, columns, control)
            for place, column in enumerate(columns):
                if not column.choices:
                    at_bound = _at_bound(column, control[:, place])
                    self._metrics.saturated.labels(column.name, label).inc(at_bound)
                    self._recent.add("saturated", column.name, (at_bound, len(control)))

    def _count_observations(self, label: str, forwards: Sequence[ForwardRecord]) -> None:
        for specs in {id(batch.specs): batch.specs for batch in forwards}.values():
            of_these = [batch.observations for batch in forwards if batch.specs is specs]
            for spec in specs:
                values = _joined([observations[spec.name] for observations in of_these])
                low, high = spec.usual
                outside = int(np.count_nonzero((values < low) | (values > high)))
                self._metrics.out_of_range.labels(spec.name, label).inc(outside)
                self._recent.add("outside", spec.name, (outside, values.size))


def _joined(parts: Sequence[NDArray[Any]]) -> NDArray[Any]:
    """The rows of all parts, of which there is at least one; a single one is not copied."""
    return parts[0] if len(parts) == 1 else np.concatenate(parts)
