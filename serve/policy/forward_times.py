"""How long a policy's forward takes for how many rows: measured for each batch shape when the policy is loaded."""

from __future__ import annotations

import functools
import statistics
from collections.abc import Mapping

from carla_mlflow.inference.batch_shapes import plan
from carla_mlflow.inference.engine import Engine

MANY_CALLS, FEW_CALLS, LONG_MS = 9, 3, 5.0
"""Calls that are timed for a batch shape, fewer where one takes over LONG_MS: those vary less."""


class ForwardTimes:
    """Estimates the duration of a forward from those of the batch shapes that it consists of.

    Each shape's time is the least that is known. A measurement while the machine was busy is so corrected by the first
    forward that takes less, and one forward that was held up changes nothing.
    """

    def __init__(self, by_shape: Mapping[int, float]) -> None:
        """Takes the milliseconds of one forward of each batch shape, in rows."""
        self._by_shape = dict(sorted(by_shape.items()))
        self._shapes = tuple(self._by_shape)
        self._plan = functools.lru_cache(maxsize=4096)(functools.partial(plan, self._shapes))

    @classmethod
    def measure(cls, engine: Engine) -> ForwardTimes:
        """Times every batch shape of a policy."""
        return cls({rows: _median_ms(engine, rows) for rows in engine.tile_rows})

    @property
    def shapes(self) -> tuple[int, ...]:
        """The batch shapes, in rows, ascending."""
        return self._shapes

    def ms(self, rows: int) -> float:
        """Milliseconds that a forward of so many rows will take."""
        by_shape = self._by_shape
        return by_shape.get(rows) or sum([by_shape[shape] for shape in self._plan(rows)])

    def rows_within(self, ms: float) -> int:
        """The rows of a forward of about `ms` milliseconds: the largest batch shape that takes no longer.

        Several of it, if that is the largest of all; the smallest one, if all take longer.
        """
        fitting = [shape for shape, took in self._by_shape.items() if took <= ms]
        largest = fitting[-1] if fitting else self._shapes[0]
        if largest < self._shapes[-1]:
            return largest
        return largest * max(1, round(ms / self._by_shape[largest]))

    def observe(self, rows: int, ms: float) -> None:
        """Takes in how long a forward took: where that is less than estimated, its batch shapes take less."""
        known = self.ms(rows)
        if ms < known:
            for shape in set(self._plan(rows)):
                self._by_shape[shape] *= ms / known


def _median_ms(engine: Engine, rows: int) -> float:
    [first] = engine.warm_up(rows, 1)
    return statistics.median(engine.warm_up(rows, MANY_CALLS if first < LONG_MS else FEW_CALLS))
