"""One named array of an observation: its type, shape and bounds, the check of values, and example values."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..errors import SpecError
from .array_bounds import Array, ArrayBounds

UNSEEN = 10.0
"""Example values of an element that has neither bounds nor `seen` lie between -UNSEEN and UNSEEN."""

SMALLEST_DECADE, USUAL_DECADE = -3.0, 4.0
"""log10 of magnitudes: half of the rows that `decades` draws lie between these, half reach up to the bound."""


def rows_of(shape: tuple[int, ...]) -> str:
    """The shape of any number of rows, in words."""
    return f"[{', '.join(['rows', *map(str, shape)])}]"


@dataclass(frozen=True)
class ArraySpec(ArrayBounds):
    """Type, shape, bounds and unit of one named array, without the batch axis.

    Attributes:
        name: an identifier.
        dtype: float32, or uint8 for images (channels first).
        shape: () for a scalar.
        low: smallest value: one for all elements, one per element of the last axis, or, nested, one per element of the
            whole array; None, for all or for one element, means no bound.
        high: largest value, likewise. Bounds are rounded to `dtype` before values are compared with them.
        unit: such as "m/s", "rad", or "1" for a ratio.
        seen: smallest and largest value in training, each one number or one per element of the last axis; None when
            unknown.
        choices: how many values each element may have, if they are choices (whole numbers from low to high) and no
            quantities: one number, or one per element of the last axis. None: quantities.
        source: the array's name in the environment where the policy was trained; None: `name`.

    Raises:
        CardError: when these contradict each other.
    """

    def validate(self, batch: Array) -> None:
        """Checks one batch.

        Args:
            batch: of `dtype`, shape (B, *shape).

        Raises:
            SpecError: wrong shape or dtype, a NaN or an infinity, or a value outside the bounds; names the row.
        """
        if batch.shape[1:] != self.shape or batch.ndim != len(self.shape) + 1:
            raise SpecError(
                f"observations.{self.name}", f"expected shape {rows_of(self.shape)}, got {list(batch.shape)}"
            )
        if batch.dtype != self.dtype:
            raise SpecError(f"observations.{self.name}", f"expected {self.dtype}, got {batch.dtype}")
        if self.is_full:
            return
        inside = (batch >= self.lows) & (batch <= self.highs)  # False for a NaN
        if self.has_whole_floats:
            inside &= batch == np.rint(batch)
        if not inside.all():
            raise self._explain(batch, inside)

    def _explain(self, batch: Array, inside: NDArray[np.bool_]) -> SpecError:
        place = tuple(int(i) for i in np.argwhere(~inside)[0])
        value = batch[place]
        field = f"observations[{place[0]}].{self.name}" + "".join(f"[{i}]" for i in place[1:])
        if not np.isfinite(value):
            return SpecError(field, f"{value:g} is not a finite {self.dtype}")
        low = np.broadcast_to(self.lows, self.shape)[place[1:]]
        high = np.broadcast_to(self.highs, self.shape)[place[1:]]
        if self.choices is not None:
            return SpecError(field, f"{value:.9g} is none of its choices, the whole numbers from {low:g} to {high:g}")
        return SpecError(field, f"{value:.6g} is outside [{low:.6g}, {high:.6g}] {self.unit}")

    def generate_value(self) -> Array:
        """One valid example without the batch axis: the middle of the bounds, or 0 for an element without bounds."""
        open_low, open_high = self.is_open
        high = np.where(open_high, np.where(open_low, 0.0, self.lows), self.highs.astype(np.float64))
        low = np.where(open_low, np.minimum(high, 0.0), self.lows)
        middle = (low + high) / 2
        return np.broadcast_to(middle if self.choices is None else np.floor(middle), self.shape).astype(self.dtype)

    def sample(self, rng: np.random.Generator, rows: int) -> Array:
        """Uniform values inside the bounds, shape (rows, *shape).

        On a side without a bound, values go as far as the range in training; if that is unknown, as far as 2 × UNSEEN
        from the other bound, and from -UNSEEN to UNSEEN where there is no bound at all.
        """
        if self.dtype == "uint8":
            return rng.integers(self.lows, self.highs, (rows, *self.shape), dtype=np.uint8, endpoint=True)
        if self.choices is not None:
            lows, highs = self.lows.astype(np.int64), self.highs.astype(np.int64)
            return rng.integers(lows, highs, (rows, *self.shape), endpoint=True).astype(np.float32)
        low, high = self._finite_range()
        drawn = rng.uniform(low, high, (rows, *self.shape))
        return np.asarray(np.clip(drawn.astype(self.dtype), self.lows, self.highs))

    def corners(self, rng: np.random.Generator, rows: int) -> Array:
        """Values at the bounds themselves, each element low or high at random, shape (rows, *shape)."""
        if self.dtype == "uint8":
            is_high = rng.integers(0, 2, (rows, *self.shape), dtype=np.uint8)
            return np.asarray(self.lows + is_high * (self.highs - self.lows))  # for images, faster than np.where
        low, high = self._finite_range()
        drawn = np.where(rng.random((rows, *self.shape)) < 0.5, low, high).astype(self.dtype)
        return np.asarray(np.clip(drawn, self.lows, self.highs))

    def decades(self, rng: np.random.Generator, rows: int) -> Array:
        """Values of every magnitude that the bounds allow, one magnitude per row, shape (rows, *shape).

        Values near zero show differences in a network that saturates over most of the range; large ones show those
        of a network that behaves differently only far out.
        """
        if self.dtype == "uint8" or self.choices is not None:
            return self.sample(rng, rows)
        low, high = self.lows.astype(np.float64), self.highs.astype(np.float64)
        largest = np.log10(max(np.abs(low).max(), np.abs(high).max(), 10.0**SMALLEST_DECADE))
        tops = np.where(rng.random(rows) < 0.5, min(USUAL_DECADE, largest), largest)
        scales = 10.0 ** rng.uniform(SMALLEST_DECADE, tops)
        drawn = rng.uniform(-1, 1, (rows, *self.shape)) * scales.reshape(-1, *[1] * len(self.shape))
        return np.asarray(np.clip(drawn, low, high).astype(self.dtype))

    def _finite_range(self) -> tuple[Array, Array]:
        # + 0.0 turns -0.0 into 0.0: numpy's `uniform` refuses the range from 0.0 to -0.0.
        low, high = self.lows.astype(np.float64) + 0.0, self.highs.astype(np.float64) + 0.0
        open_low, open_high = self.is_open
        if self.seen is not None:
            from_low, from_high = np.minimum(self.seen_lows, high), np.maximum(self.seen_highs, low)
        else:
            from_low = np.where(open_high, -UNSEEN, high - 2 * UNSEEN)
            from_high = np.where(open_low, UNSEEN, low + 2 * UNSEEN)
        return np.where(open_low, from_low, low), np.where(open_high, from_high, high)
