"""Compares what another version would have done with what drove: a replay's comparison, and the shadow's.

Both give the same numbers for the same rows, in whatever order and batches they come: sums are of whole numbers, and of
equal moments the earlier one counts as worse.
"""

from __future__ import annotations

from collections import Counter

import msgspec
import numpy as np
from numpy.typing import NDArray

from carla_mlflow.contract.action_card import ActionCard
from carla_mlflow.contract.answer import answer_columns
from carla_mlflow.differences.actions import (
    Float32,
    brake_against_throttle,
    differences,
    dimensions,
    knows_acceleration,
)
from carla_mlflow.differences.distribution import DimensionFigures, Distribution, SavedDistribution
from carla_mlflow.errors import ContractError
from serve.replay.moments import Moment, Moments, moment_of

WORST = 20
"""How many moments of the largest differences are kept."""


class Figures(msgspec.Struct, frozen=True):
    """What a comparison found.

    Attributes:
        rows: how many were compared.
        equal: how many have the same bits.
        dimensions: see DimensionFigures.
        brake_against_throttle: rows in which one version brakes and the other accelerates; None where the policy
            answers neither. See `differences.OPPOSED`.
        names: of the values of an action.
        worst: the moments of the largest differences, at most WORST, the largest first; none that are equal.
        skipped: reason → rows that could not be compared.
    """

    rows: int
    equal: int
    dimensions: list[DimensionFigures]
    brake_against_throttle: int | None
    names: tuple[str, ...]
    worst: list[Moment]
    skipped: dict[str, int]


class _Saved(msgspec.Struct, frozen=True):
    """All that a Comparison has found."""

    rows: int
    equal: int
    opposed: int
    distributions: list[SavedDistribution]
    worst: list[Moment]
    skipped: dict[str, int]


class Comparison:
    """Collects the differences between recorded actions and another version's."""

    def __init__(self, action: ActionCard) -> None:
        """Takes the card's section of the recorded actions; the other version has to answer the same columns."""
        self.action = action
        self._dimensions = dimensions(action)
        self._distributions = [Distribution(dimension.span) for dimension in self._dimensions]
        self._rows = self._equal = self._opposed = 0
        self._worst: list[Moment] = []
        self._skipped: Counter[str] = Counter()

    def add(self, recorded: Float32, other: Float32, moments: Moments) -> dict[str, NDArray[np.float64]]:
        """Compares rows for which both versions have an action.

        Args:
            recorded: the actions taken, (B, C), in the order of `ActionCard.control_names`.
            other: the other version's, likewise.
            moments: of the rows.

        Returns:
            The differences by dimension, each (B,).
        """
        apart = differences(self.action, recorded, other)
        for dimension, distribution in zip(self._dimensions, self._distributions, strict=True):
            distribution.add(apart[dimension.name])
        self._rows += len(recorded)
        self._equal += int(same_bits(recorded, other).sum())
        self._opposed += int(brake_against_throttle(self.action, recorded, other).sum())
        self._keep_worst(apart, recorded, other, moments)
        return apart

    def skip(self, reason: str, rows: int) -> None:
        """Counts rows that can't be compared."""
        if rows:
            self._skipped[reason] += rows

    def merge(self, other: Comparison) -> None:
        """Adds what another comparison of the same columns has found."""
        for mine, theirs in zip(self._distributions, other._distributions, strict=True):
            mine.merge(theirs)
        self._rows, self._equal = self._rows + other._rows, self._equal + other._equal
        self._opposed += other._opposed
        self._worst = sorted(self._worst + other._worst)[:WORST]
        self._skipped.update(other._skipped)

    def to_bytes(self) -> bytes:
        """All that was found, for `from_bytes` in another process."""
        distributions = [distribution.saved() for distribution in self._distributions]
        counts = (self._rows, self._equal, self._opposed)
        return msgspec.json.encode(_Saved(*counts, distributions, self._worst, dict(self._skipped)))

    @classmethod
    def from_bytes(cls, action: ActionCard, data: bytes) -> Comparison:
        """Goes on from what another one of the same columns has found; `data` is of `to_bytes`."""
        saved, comparison = msgspec.json.decode(data, type=_Saved), cls(action)
        comparison._rows, comparison._equal, comparison._opposed = saved.rows, saved.equal, saved.opposed
        for mine, theirs in zip(comparison._distributions, saved.distributions, strict=True):
            mine.restore(theirs)
        comparison._worst, comparison._skipped = list(saved.worst), Counter(saved.skipped)
        return comparison

    def figures(self) -> Figures:
        found = [
            distribution.figures(dimension.name, dimension.is_choice)
            for dimension, distribution in zip(self._dimensions, self._distributions, strict=True)
        ]
        opposed = self._opposed if knows_acceleration(self.action) else None
        names = self.action.control_names
        return Figures(self._rows, self._equal, found, opposed, names, list(self._worst), dict(self._skipped))

    def _keep_worst(
        self, apart: dict[str, NDArray[np.float64]], recorded: Float32, other: Float32, moments: Moments
    ) -> None:
        closeness = np.ones(len(recorded))
        for dimension in self._dimensions:
            np.minimum(closeness, 1.0 - apart[dimension.name] / dimension.span, out=closeness)
        least = self._worst[-1].closeness if len(self._worst) == WORST else 1.0
        candidates = np.flatnonzero((closeness <= least) & (closeness < 1.0))
        if len(candidates) > WORST:  # the rows beyond can't be among the worst, whatever their ids are
            order = np.lexsort((moments.timestamp[candidates], closeness[candidates]))
            last = candidates[order[WORST - 1]]
            ties = (closeness == closeness[last]) & (moments.timestamp == moments.timestamp[last])
            candidates = np.union1d(candidates[order[:WORST]], np.flatnonzero(ties))
        found = [moment_of(place, float(closeness[place]), recorded, other, moments) for place in candidates.tolist()]
        self._worst = sorted(self._worst + found)[:WORST]


def check_comparable(recorded: ActionCard, other: ActionCard, name: str) -> None:
    """Raises ContractError unless both versions answer the same columns; `name` is the other's."""
    mine, theirs = answer_columns(recorded), answer_columns(other)
    if [(c.name, c.choices, c.labels) for c in mine] != [(c.name, c.choices, c.labels) for c in theirs]:
        wanted, got = (", ".join(column.name for column in columns) for columns in (mine, theirs))
        what = f"{got}, not {wanted}" if wanted != got else f"{got}, but with other choices"
        raise ContractError(f"{name} can't be compared with what was recorded: it answers {what}")


def same_bits(recorded: Float32, other: Float32) -> NDArray[np.bool_]:
    """Which rows of two arrays (B, N) have the same bits in all columns, (B,)."""
    mine, theirs = (np.ascontiguousarray(array, dtype=np.float32).view(np.uint32) for array in (recorded, other))
    equal: NDArray[np.bool_] = (mine == theirs).all(axis=1)
    return equal
