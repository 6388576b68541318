"""How long a policy's forward takes for how many rows: measured for each batch shape when the policy is loaded."""

from __future__ import annotations

import functools
from collections.abc import Mapping

from carla_mlflow.inference.batch_shapes import plan
from carla_mlflow.inference.engine import Engine

MANY_CALLS, FEW_CALLS, LONG_MS = 9, 3, 5.0
"""Calls that are timed for a batch shape, fewer where one takes over LONG_MS: those vary less."""


class ForwardTimes:
    """Estimates the duration of a forward from those of the batch shapes that it consists of.

    Each shape's time is the least that is known of it and of larger ones. So a measurement while the machine was busy
    is corrected by the first forward that takes less, and one forward that was held up changes nothing.
    """

    def __init__(self, by_shape: Mapping[int, float]) -> None:
        """Takes the milliseconds of one forward of each batch shape, in rows."""
        self._by_shape = dict(sorted(by_shape.items()))
        self._shapes = tuple(self._by_shape)
        self._bound()
        self._plan = functools.lru_cache(maxsize=4096)(functools.partial(plan, self._shapes))

    @classmethod
    def measure(cls, engine: Engine) -> ForwardTimes:
        """Times every batch shape of a policy: the least of several calls, of all shapes in turn.

        On a machine that is busy for a while, all shapes are then measured while it is, and while it is not.
        """
        least = {rows: engine.warm_up(rows, 1)[0] for rows in engine.tile_rows}
        for number in range(1, MANY_CALLS):
            for rows, ms in least.items():
                if number < FEW_CALLS or ms < LONG_MS:
                    least[rows] = min(ms, engine.warm_up(rows, 1)[0])
        return cls(least)

    @property
    def shapes(self) -> tuple[int, ...]:
        """The batch shapes, in rows, ascending."""
        return self._shapes

    def ms(self, rows: int) -> float:
        """Milliseconds that a forward of so many rows will take."""
        by_shape = self._by_shape
        return by_shape.get(rows) or sum([by_shape[shape] for shape in self._plan(rows)])

    def most_ms(self, ms: float) -> float:
        """How long a forward of several rows may take that should take `ms` milliseconds: up to twice one row's time.

        Else, where one row takes nearly as long, each would get a forward of its own, although many together take
        hardly longer.
        """
        return max(ms, 2 * self.ms(1))

    def rows_within(self, ms: float) -> int:
        """The rows of a forward of about `ms` milliseconds: the largest batch shape within `most_ms` of that.

        Several of it, if that is the largest of all; the smallest one, if all take longer.
        """
        most_ms = self.most_ms(ms)
        fitting = [shape for shape, took in self._by_shape.items() if took <= most_ms]
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
            self._bound()

    def _bound(self) -> None:
        """Fewer rows take no longer: lowers the times of the shapes that say otherwise."""
        least = float("inf")
        for shape in reversed(self._shapes):
            least = self._by_shape[shape] = min(least, self._by_shape[shape])
