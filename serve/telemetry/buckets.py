"""Histograms and counts of choices in plain numbers, to be flushed to prometheus_client now and then."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from prometheus_client import Counter, Histogram

from carla_mlflow.contract.answer import AnswerColumn


class Buckets:
    """A histogram in plain numbers."""

    def __init__(self, histogram: Histogram, bounds: Sequence[float]) -> None:
        self._histogram, self._bounds = histogram, np.array(bounds)
        self._clear()

    def _clear(self) -> None:
        self._up_to, self._all, self._sum = np.zeros(len(self._bounds), dtype=np.int64), 0, 0.0

    def add(self, values: NDArray[Any]) -> None:
        """Counts one or more values."""
        # To sort the values and look for the bounds is faster than to look for each value among the bounds.
        self._up_to += np.sort(values).searchsorted(self._bounds, side="right")
        self._all += len(values)
        self._sum += float(values.sum(dtype=np.float64))

    @property
    def counts(self) -> list[int]:
        """Counts since the last flush; the last bucket has no upper bound."""
        counts: list[int] = np.diff(self._up_to, prepend=0, append=self._all).tolist()
        return counts

    def flush(self) -> None:
        """Adds the counts to prometheus_client's private fields: it has no public way to add many values at once."""
        if not self._all:
            return
        for bucket, count in zip(self._histogram._buckets, self.counts, strict=True):
            if count:
                bucket.inc(count)
        self._histogram._sum.inc(self._sum)
        self._clear()


class LabelledBuckets:
    """A histogram with labels in plain numbers; a series is made when it is first counted."""

    def __init__(self, histogram: Histogram, bounds: Sequence[float]) -> None:
        self._histogram, self._bounds = histogram, bounds
        self._series: dict[tuple[str, ...], Buckets] = {}

    def add(self, labels: tuple[str, ...], values: NDArray[Any]) -> None:
        """Counts one or more values of one series."""
        buckets = self._series.get(labels)
        if buckets is None:
            buckets = self._series[labels] = Buckets(self._histogram.labels(*labels), self._bounds)
        buckets.add(values)

    def counts(self) -> dict[str, list[int]]:
        """Counts since the last flush by the first label, summed over the others."""
        found: dict[str, list[int]] = {}
        for (first, *_), buckets in self._series.items():
            mine = buckets.counts
            found[first] = [a + b for a, b in zip(found[first], mine, strict=True)] if first in found else mine
        return found

    def flush(self) -> None:
        """Flushes the counts to prometheus_client."""
        for buckets in self._series.values():
            buckets.flush()


class ActionCounts:
    """How often which actions were given: a histogram a continuous value, a counter a choice; each by version."""

    def __init__(self, values: Histogram, choices: Counter, bounds: Sequence[float]) -> None:
        """`bounds` are those of `values`, for values in [-1, 1]; others are brought there from their own bounds."""
        self._values, self._choices = LabelledBuckets(values, bounds), choices
        self._chosen: dict[tuple[AnswerColumn, str], list[int]] = {}

    def add(self, version: str, columns: tuple[AnswerColumn, ...], control: NDArray[np.float32]) -> None:
        """Counts actions (B, C) of a version, by its label."""
        for column, values in zip(columns, control.T, strict=True):
            if column.choices:
                counts = np.bincount(values.astype(np.intp), minlength=column.choices)
                key = column, version
                self._chosen[key] = (counts + self._chosen.get(key, 0)).tolist()
                continue
            scaled = values if column.is_unit else 2 * (values - column.low) / (column.high - column.low) - 1
            self._values.add((column.name, version), scaled)

    @property
    def counts(self) -> dict[str, list[int]]:
        """Counts since the last flush, by `minute_key`, of all versions."""
        found = self._values.counts()
        for (column, _), chosen in self._chosen.items():
            key = minute_key(column)
            found[key] = [a + b for a, b in zip(found[key], chosen, strict=True)] if key in found else chosen
        return found

    def flush(self) -> None:
        """Flushes the counts to prometheus_client."""
        self._values.flush()
        for (column, version), chosen in self._chosen.items():
            for index, count in enumerate(chosen):
                if count:
                    self._choices.labels(column.name, choice_label(column, index), version).inc(count)
        self._chosen.clear()


def minute_key(column: AnswerColumn) -> str:
    """The name of a column's counts in the last minute: all of one name have as many."""
    return f"{column.name} of {column.choices}" if column.choices else column.name


def choice_label(column: AnswerColumn, index: int) -> str:
    """A choice in metrics: its label, or its index where it has none."""
    return column.labels[index] if column.labels else str(index)
