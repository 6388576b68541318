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
from prometheus_client import Counter, Histogram

from carla_mlflow.contract.answer import AnswerColumn
from carla_mlflow.contract.array_spec import ArraySpec
from serve.errors import STATUS
from serve.telemetry.last_minute import Counts, LastMinute

MAX_ROWS, MAX_BATCHES, MAX_ANSWERS = 512, 128, 512
"""Most rows, forwards and answers that wait to be counted: counting more at once would delay a request."""

CHANGE_NAMES = ("steer", "acceleration")
"""What is compared between two actions of an episode; acceleration is throttle - brake."""


class Buckets:
    """A histogram in plain numbers."""

    def __init__(self, histogram: Histogram, bounds: Sequence[float]) -> None:
        self._histogram, self._bounds = histogram, bounds
        self._counts, self._sum = [0] * (len(bounds) + 1), 0.0

    def add(self, values: NDArray[Any]) -> None:
        """Counts one or more values."""
        places = np.bincount(np.searchsorted(self._bounds, values), minlength=len(self._counts))
        self._counts = (places + self._counts).tolist()
        self._sum += float(values.sum(dtype=np.float64))

    @property
    def counts(self) -> list[int]:
        """Counts since the last flush; the last bucket has no upper bound."""
        return self._counts

    def flush(self) -> None:
        """Adds the counts to prometheus_client's private fields: it has no public way to add many values at once."""
        for bucket, count in zip(self._histogram._buckets, self._counts, strict=True):
            if count:
                bucket.inc(count)
        if any(self._counts):
            self._histogram._sum.inc(self._sum)
            self._counts, self._sum = [0] * len(self._counts), 0.0


class ActionCounts:
    """How often which actions were given: a histogram a continuous value, a counter a choice."""

    def __init__(self, values: Histogram, choices: Counter, bounds: Sequence[float]) -> None:
        """`bounds` are those of `values`, for values in [-1, 1]; others are brought there from their own bounds."""
        self._values, self._choices, self._bounds = values, choices, bounds
        self._buckets: dict[str, Buckets] = {}
        self._chosen: dict[AnswerColumn, list[int]] = {}

    def add(self, columns: tuple[AnswerColumn, ...], control: NDArray[np.float32]) -> None:
        """Counts actions (B, C)."""
        for column, values in zip(columns, control.T, strict=True):
            if column.choices:
                counts = np.bincount(values.astype(np.intp), minlength=column.choices)
                self._chosen[column] = (counts + self._chosen.get(column, 0)).tolist()
                continue
            buckets = self._buckets.get(column.name)
            if buckets is None:
                buckets = self._buckets[column.name] = Buckets(self._values.labels(column.name), self._bounds)
            buckets.add(values if column.is_unit else 2 * (values - column.low) / (column.high - column.low) - 1)

    @property
    def counts(self) -> dict[str, list[int]]:
        """Counts since the last flush, by `minute_key`."""
        counts = {name: buckets.counts for name, buckets in self._buckets.items()}
        return counts | {minute_key(column): chosen for column, chosen in self._chosen.items()}

    def flush(self) -> None:
        """Flushes the counts to prometheus_client."""
        for buckets in self._buckets.values():
            buckets.flush()
        for column, chosen in self._chosen.items():
            for index, count in enumerate(chosen):
                if count:
                    self._choices.labels(column.name, choice_label(column, index)).inc(count)
        self._chosen.clear()


def minute_key(column: AnswerColumn) -> str:
    """The name of a column's counts in the last minute: all of one name have as many."""
    return f"{column.name} of {column.choices}" if column.choices else column.name


def choice_label(column: AnswerColumn, index: int) -> str:
    """A choice in metrics: its label, or its index where it has none."""
    return column.labels[index] if column.labels else str(index)


def _at_bound(column: AnswerColumn, values: NDArray[np.float32]) -> int:
    """How many values are full pedal or full lock, or at either bound of something else; a free pedal is neither."""
    high, low = np.float32(column.high), np.float32(column.low)
    return int(((values >= high) | ((values <= low) & (low < 0))).sum())


class ForwardRecord(NamedTuple):
    """One forward, to be counted later: its policy's version, its duration, its observations, actions and columns."""

    version: str
    inference_s: float
    specs: tuple[ArraySpec, ...]
    observations: Mapping[str, NDArray[Any]]
    control: NDArray[np.float32]
    columns: tuple[AnswerColumn, ...]


class Metrics(NamedTuple):
    """The metrics that the counts are flushed to."""

    requests: Counter
    late: Counter
    actions: Counter
    saturated: Counter
    out_of_range: Counter
    parts: dict[str, Buckets]
    rows: Buckets
    dimensions: ActionCounts
    changes: tuple[Buckets, ...]


class MetricsBuffer:
    """The buffered counts of one worker. Safe to call from several threads."""

    def __init__(self, metrics: Metrics, minute: LastMinute) -> None:
        self._metrics, self._minute = metrics, minute
        self._lock = threading.Lock()
        self._answers: list[tuple[tuple[str, int, str], float | None, float | None, float | None]] = []
        self._actions: Numbers[str] = Numbers()
        self._requests: Numbers[tuple[str, int, str]] = Numbers()
        self._forwards: list[ForwardRecord] = []
        self._rows = 0
        self._changes: list[tuple[NDArray[np.float32], NDArray[np.float32]]] = []
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

    def changed(self, before: NDArray[np.float32], after: NDArray[np.float32]) -> None:
        """Counts the change from an episode's previous action to the latest, both (B, 3), with NaN for the unknown."""
        with self._lock:
            self._changes.append((before, after))
            self._changed_rows += len(after)
            if self._changed_rows > MAX_ROWS:
                self._count_changes()

    def flush(self) -> None:
        """Flushes everything to prometheus_client."""
        with self._lock:
            self._count_changes()
            self._count_forwards()
            self._count_answers()
            for labels, count in self._requests.items():
                self._metrics.requests.labels(*labels).inc(count)
                if labels[1] == STATUS["deadline_exceeded"]:
                    self._metrics.late.inc(count)
            self._requests.clear()
            for version, rows in self._actions.items():
                self._metrics.actions.labels(version).inc(rows)
            self._actions.clear()
            counts = {"latency": self._metrics.parts["total"].counts, **self._metrics.dimensions.counts}
            self._minute.add(counts)
            self._metrics.dimensions.flush()
            for buckets in (*self._metrics.parts.values(), *self._metrics.changes, self._metrics.rows):
                buckets.flush()

    def last_minute(self) -> Counts:
        """Returns the counts of all workers in the last minute: `latency`, and each column of actions."""
        self.flush()
        with self._lock:
            return self._minute.read()

    def _count_answers(self) -> None:
        answers = self._answers[:]  # a copy: other threads may append
        del self._answers[: len(answers)]
        self._requests.update([answer[0] for answer in answers])
        for column, part in ((1, "queue"), (2, "total"), (3, "decode")):
            seconds = [answer[column] for answer in answers if answer[column] is not None]
            self._metrics.parts[part].add(np.array(seconds, dtype=np.float64))

    def _count_changes(self) -> None:
        changes, self._changes, self._changed_rows = self._changes, [], 0
        if not changes:
            return
        before, after = (np.concatenate(parts) for parts in zip(*changes, strict=True))
        throttle, brake, steer = (after - before).T
        for buckets, change in zip(self._metrics.changes, (steer, throttle - brake), strict=True):
            buckets.add(np.abs(change[~np.isnan(change)]))

    def _count_forwards(self) -> None:
        """Counts the policy's actions, and the observations outside the range that it is used to."""
        forwards, self._forwards, self._rows = self._forwards, [], 0
        if not forwards:
            return
        for batch in forwards:
            self._actions[batch.version] += len(batch.control)
        self._metrics.rows.add(np.array([len(batch.control) for batch in forwards]))
        self._metrics.parts["inference"].add(np.array([batch.inference_s for batch in forwards]))
        for columns in {id(batch.columns): batch.columns for batch in forwards}.values():
            control = np.concatenate([batch.control for batch in forwards if batch.columns is columns])
            self._metrics.dimensions.add(columns, control)
            for place, column in enumerate(columns):
                if not column.choices:
                    self._metrics.saturated.labels(column.name).inc(_at_bound(column, control[:, place]))
        for specs in {id(batch.specs): batch.specs for batch in forwards}.values():
            of_these = [batch.observations for batch in forwards if batch.specs is specs]
            for spec in specs:
                values = np.concatenate([observations[spec.name] for observations in of_these])
                low, high = spec.usual
                outside = (values < low) | (values > high)
                self._metrics.out_of_range.labels(spec.name).inc(int(outside.sum()))
