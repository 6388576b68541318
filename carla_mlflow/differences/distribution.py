"""The distribution of one kind of difference, in whole numbers, so that the order of the rows does not matter."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray

EDGES = (0.0, 1e-6, 1e-5, 1e-4, 1e-3, 2e-3, 5e-3, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0)
"""Upper bounds of the histogram's bins; the first holds differences of exactly 0. Larger spans go on by 1, 2, 5."""
LEVELS = (0.01, 0.05, 0.1, 0.5)
"""Of these, the share of rows that differ by more is given."""
UNITS = 2**32
"""A difference is summed up as a whole number of its span's 2**32nds."""
BUCKET_BITS = 16
"""Quantiles are read from buckets of float32 values that agree in all but these last bits, 0.8 % apart."""


class DimensionFigures(msgspec.Struct, frozen=True):
    """What is told about one dimension.

    Attributes:
        name: as in `differences.Dimension`.
        is_choice: whether it is a choice: `mean` is then the share of rows in which it differs, and the rest is 0 or 1.
        mean: of the differences.
        p50: half of the rows differ by no more, rounded up by at most 0.8 %; likewise p90 and p99.
        max: the largest difference.
        over: level → share of rows that differ by more.
        histogram: upper bound of a bin and its rows, of differences above the bound before; the first bin is 0 alone.
    """

    name: str
    is_choice: bool
    mean: float
    p50: float
    p90: float
    p99: float
    max: float
    over: dict[str, float]
    histogram: list[tuple[float, int]]


class SavedDistribution(msgspec.Struct, frozen=True):
    """All that a Distribution has counted."""

    counts: list[int]
    buckets: list[tuple[int, int]]
    units: int
    max: float


class Distribution:
    """Counts differences of one dimension."""

    def __init__(self, span: float) -> None:
        """Takes the largest possible difference."""
        self._span = span
        self._edges = np.array(edges_of(span))
        self._counts = np.zeros(len(self._edges), np.int64)
        self._buckets: Counter[int] = Counter()
        self._units = 0
        self._max = 0.0

    def add(self, apart: NDArray[np.float64]) -> None:
        """Counts differences, (B,), each at least 0 (one beyond the span in the last bin)."""
        if not len(apart):
            return
        bins = np.minimum(np.searchsorted(self._edges, apart), len(self._edges) - 1)
        self._counts += np.bincount(bins, minlength=len(self._counts))
        buckets, rows = np.unique(apart.astype(np.float32).view(np.uint32) >> BUCKET_BITS, return_counts=True)
        self._buckets.update(dict(zip(buckets.tolist(), rows.tolist(), strict=True)))
        self._units += int(np.rint(apart * (UNITS / self._span)).astype(np.int64).sum())
        self._max = max(self._max, float(apart.max()))

    def merge(self, other: Distribution) -> None:
        """Adds what another one of the same span has counted."""
        self._counts += other._counts
        self._buckets.update(other._buckets)
        self._units += other._units
        self._max = max(self._max, other._max)

    def saved(self) -> SavedDistribution:
        """All that was counted, for `restore`."""
        return SavedDistribution(self._counts.tolist(), sorted(self._buckets.items()), self._units, self._max)

    def restore(self, saved: SavedDistribution) -> None:
        """Goes on from what one of the same span has counted."""
        self._counts = np.array(saved.counts, np.int64)
        self._buckets, self._units, self._max = Counter(dict(saved.buckets)), saved.units, saved.max

    def figures(self, name: str, is_choice: bool) -> DimensionFigures:
        rows = max(1, int(self._counts.sum()))
        above = self._counts[::-1].cumsum()[::-1]  # above[i]: rows beyond edge i - 1
        places = {level: int(np.searchsorted(self._edges, level)) for level in LEVELS if level < self._span}
        over = {f"{level:g}": int(above[place + 1]) / rows for level, place in places.items()}
        histogram = list(zip(self._edges.tolist(), self._counts.tolist(), strict=True))
        mean = self._units / UNITS * self._span / rows
        p50, p90, p99 = (self._quantile(share, rows) for share in (0.5, 0.9, 0.99))
        return DimensionFigures(name, is_choice, mean, p50, p90, p99, self._max, over, histogram)

    def _quantile(self, share: float, rows: int) -> float:
        """The least upper bound of a bucket that at least this share of the rows does not exceed."""
        seen = 0
        for bucket in sorted(self._buckets):
            seen += self._buckets[bucket]
            if seen >= share * rows:
                top = np.uint32((bucket << BUCKET_BITS) | (2**BUCKET_BITS - 1 if bucket else 0))
                return min(float(top.view(np.float32)), self._max)
        return 0.0


def edges_of(span: float) -> list[float]:
    """The upper bounds of the bins for differences up to `span`."""
    edges = list(EDGES)
    factors = (2.5, 2.0, 2.0)  # 2 → 5 → 10 → 20
    while edges[-1] < span:
        edges.append(float(f"{edges[-1] * factors[(len(edges) - len(EDGES)) % 3]:g}"))
    return edges


def dimension_rows(dimensions: Sequence[DimensionFigures]) -> list[tuple[str, ...]]:
    """The distribution of differences as a table, headings first."""
    levels = [f"{level:g}" for level in LEVELS]
    rows = [("|difference|", "mean", "p50", "p90", "p99", "max", *(f"> {level}" for level in levels))]
    for found in dimensions:
        if found.is_choice:
            rows.append((f"{found.name}: another choice", f"{found.mean:.2%}", *[""] * (4 + len(levels))))
            continue
        figures = (found.mean, found.p50, found.p90, found.p99, found.max)
        shares = (f"{found.over[level]:.2%}" if level in found.over else "" for level in levels)
        rows.append((found.name, *(f"{figure:.4g}" for figure in figures), *shares))
    return rows
