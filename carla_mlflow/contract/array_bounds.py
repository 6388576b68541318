"""The declared type, shape and bounds of one named array, and the range in training."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ..errors import CardError

Bound = float | tuple[Any, ...] | None
"""One number for all elements, or a tuple: one number (None: no bound) per element of the last axis, or, nested, of the
whole array, where a level of one element stands for its whole axis."""
Array = NDArray[Any]

MAX_DIMENSIONS, MAX_ELEMENTS = 8, 1 << 24
"""Limits of one array: far more than a car's sensors give, yet no card alone can exhaust memory with them."""

LARGEST = float(np.finfo(np.float32).max)

MAX_WHOLE = float(1 << 24)
"""The largest whole number up to which float32 holds every whole number."""

EDGE = 0.005
"""The fraction of the bounds' width, at either end, in which a policy was hardly trained."""

NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}")


@dataclass(frozen=True)
class ArrayBounds:
    """The fields of ArraySpec, which documents them, and the bounds as arrays.

    Raises:
        CardError: when the fields contradict each other.
    """

    name: str
    dtype: Literal["float32", "uint8"]
    shape: tuple[int, ...]
    low: Bound = None
    high: Bound = None
    unit: str = "1"
    seen: tuple[float | tuple[float, ...], float | tuple[float, ...]] | None = None
    choices: int | tuple[int, ...] | None = None
    source: str | None = None

    def __post_init__(self) -> None:
        if not NAME.fullmatch(self.name):
            raise CardError(f"observation {self.name!r}: a name is a letter or _, then up to 63 letters, digits or _")
        if any(size < 1 for size in self.shape):
            raise CardError(f"observation {self.name}: every size in shape {list(self.shape)} must be at least 1")
        if len(self.shape) > MAX_DIMENSIONS or math.prod(self.shape) > MAX_ELEMENTS:
            raise CardError(
                f"observation {self.name}: shape {list(self.shape)[: MAX_DIMENSIONS + 1]} is too large; at most "
                f"{MAX_DIMENSIONS} axes and {MAX_ELEMENTS:,} elements"
            )
        seen_low, seen_high = self.seen or (None, None)
        named = {"low": self.low, "high": self.high, "seen.low": seen_low, "seen.high": seen_high}
        for label, bound in named.items():
            self._check_nesting(label, bound)
        if not (self.lows <= self.highs).all():
            raise CardError(f"observation {self.name}: low {self.low} is above high {self.high}")
        self._check_choices()
        if self.seen is not None and not (self.seen_lows <= self.seen_highs).all():
            raise CardError(f"observation {self.name}: seen.low {seen_low} is above seen.high {seen_high}")

    def _check_nesting(self, label: str, bound: Bound) -> None:
        if not isinstance(bound, tuple):
            return
        if not any(isinstance(each, tuple) for each in bound):
            if not self.shape or len(bound) != self.shape[-1]:
                width = self.shape[-1] if self.shape else 1
                raise CardError(f"observation {self.name}: {label} has {len(bound)} values for {width} elements")
            return
        nested = _nested_shape(bound)
        fits = len(nested) == len(self.shape) and all(a in (1, b) for a, b in zip(nested, self.shape, strict=True))
        if not fits:
            found = list(nested) or "lists of different lengths"
            raise CardError(
                f"observation {self.name}: {label} is nested as {found}; expected one level per axis of "
                f"{list(self.shape)}, each of that size or of 1"
            )

    def _check_choices(self) -> None:
        if self.choices is None:
            return
        wanted = np.asarray(self.choices, dtype=np.float64)
        if wanted.size == 0 or (wanted.ndim and wanted.shape != self.shape[-1:]):
            raise CardError(f"observation {self.name}: choices has {wanted.size} values for shape {list(self.shape)}")
        low, high = self.lows.astype(np.float64), self.highs.astype(np.float64)
        whole = bool((low == np.rint(low)).all()) and max(np.abs(low).max(), np.abs(high).max()) <= MAX_WHOLE
        if not whole or (high - low + 1 != wanted).any():
            raise CardError(
                f"observation {self.name}: its choices are whole numbers from low to high, which are {self.choices} in "
                f"number; low is {self.low}, high is {self.high}"
            )

    @cached_property
    def lows(self) -> Array:
        """Smallest values, shape broadcastable to `shape`, of `dtype`."""
        return self._bound(self.low, smallest=True)

    @cached_property
    def highs(self) -> Array:
        """Largest values, shape broadcastable to `shape`, of `dtype`."""
        return self._bound(self.high, smallest=False)

    @cached_property
    def seen_lows(self) -> Array:
        """Smallest values in training, shaped as `lows`; the bounds when unknown."""
        return self.lows if self.seen is None else self._bound(self.seen[0], smallest=True)

    @cached_property
    def seen_highs(self) -> Array:
        """Largest values in training, shaped as `highs`; the bounds when unknown."""
        return self.highs if self.seen is None else self._bound(self.seen[1], smallest=False)

    @cached_property
    def is_open(self) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """Which elements have no lower and which no upper bound, each broadcastable to `shape`.

        The largest float32 counts as no bound too: spaces and older cards write it where there is none.
        """
        if self.dtype == "uint8":
            return np.zeros((), bool), np.zeros((), bool)
        return np.asarray(self.lows <= -LARGEST), np.asarray(self.highs >= LARGEST)

    @cached_property
    def is_full(self) -> bool:
        """Whether the bounds allow every value of `dtype`, as for an image's bytes, so that no check is needed."""
        return self.dtype == "uint8" and bool(self.lows.max() == 0 and self.highs.min() == 255)

    @cached_property
    def has_whole_floats(self) -> bool:
        """Whether the values are choices that stand in float32, which has other numbers between them."""
        return self.choices is not None and self.dtype == "float32"

    @cached_property
    def usual(self) -> tuple[Array, Array]:
        """Smallest and largest value that the policy is used to, float64, each broadcastable to `shape`.

        This is the range in training; when unknown, the bounds less EDGE at either end; without bounds, any value, as
        for choices, none of which is more usual than another.
        """
        if self.seen is not None:
            return self.seen_lows.astype(np.float64), self.seen_highs.astype(np.float64)
        low, high = self.lows.astype(np.float64), self.highs.astype(np.float64)
        margin = EDGE * (high - low)
        is_open = np.logical_or(*self.is_open) | (self.choices is not None)
        return np.where(is_open, -np.inf, low + margin), np.where(is_open, np.inf, high - margin)

    @property
    def origin(self) -> str:
        """The array's name in the environment where the policy was trained."""
        return self.name if self.source is None else self.source

    @property
    def has_usual(self) -> bool:
        """Whether `usual` limits anything."""
        return bool(np.isfinite(self.usual[0]).any())

    def _bound(self, bound: Bound, smallest: bool) -> Array:
        limits = np.finfo(np.float32) if self.dtype == "float32" else np.iinfo(np.uint8)
        extreme = float(limits.min if smallest else limits.max)
        values = np.asarray(_filled(bound, extreme), dtype=np.float64)
        if not np.isfinite(values).all() or (values < limits.min).any() or (values > limits.max).any():
            raise CardError(
                f"observation {self.name}: the bound {bound} does not fit {self.dtype}; write null for no bound"
            )
        if self.dtype == "uint8" and (values != np.rint(values)).any():
            raise CardError(f"observation {self.name}: the bound {bound} is not a whole number, which uint8 needs")
        return values.astype(self.dtype)


def _filled(bound: Any, extreme: float) -> Any:
    """The bound with `extreme` for each None."""
    if isinstance(bound, tuple):
        return [_filled(each, extreme) for each in bound]
    return extreme if bound is None else bound


def _nested_shape(bound: Any) -> tuple[int, ...]:
    """The shape of nested tuples; () if they differ in length or depth."""
    if not isinstance(bound, tuple):
        return ()
    below = {_nested_shape(each) for each in bound}
    deep = any(isinstance(each, tuple) for each in bound)
    if len(below) != 1 or (deep and () in below):
        return ()
    return (len(bound), *below.pop())
