"""The input buffers of one batch shape: filled, checked against the bounds, and run through the graph."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..backends.backend import Arrays, Backend, Features
from ..contract.array_spec import ArraySpec
from ..contract.specs import ObservationSpec

ZERO_COPY_BYTES = 16_384
"""An image array of at least this size is read from the caller's memory instead of copied."""


class Workspace:
    """Preallocated inputs for a fixed number of rows, bound to the graph. Used by one thread at a time.

    All float32 fields share one buffer, so that one comparison checks the bounds of all.
    """

    def __init__(
        self, backend: Backend, specs: ObservationSpec, rows: int, features: Features | None, memory: bool = False
    ) -> None:
        """Allocates and binds the inputs; `memory` tells whether the outputs hold next states, of any shape."""
        self.rows = rows
        self._memory = memory
        floats = [spec for spec in specs if spec.dtype == "float32"]
        self._flat = backend.allocate(rows * sum(_size(spec) for spec in floats), "float32")
        self._low, self._high = (
            np.concatenate([np.broadcast_to(bound(s), (rows, *s.shape)).ravel() for s in floats] or [self._flat])
            for bound in (_lows, _highs)
        )
        self._views, start = [], 0
        for spec in specs:
            count = rows * _size(spec)
            if spec.dtype == "float32":
                buffer, start = self._flat[start : start + count], start + count
            else:
                buffer = backend.allocate(count, spec.dtype)
            self._views.append(buffer.reshape(rows, *spec.shape))
        fields = list(zip(specs, self._views, strict=True))
        self._bounded_images = [(view, spec) for spec, view in fields if spec.dtype == "uint8" and not spec.is_full]
        self._whole = [view for view, spec in zip(self._views, specs, strict=True) if spec.has_whole_floats]
        self._features = features
        self._fields = [(spec.name, view, features is None and _allows_zero_copy(spec, rows)) for spec, view in fields]
        self._examples = [spec.generate_value() for spec in specs]
        self._used = 0  # rows that hold a caller's observations
        self._reset()
        if features is None:
            self._bound = backend.bind(self._views)
        else:
            made = features(self._views)
            self._made = [backend.allocate(array.size, "float32").reshape(array.shape) for array in made]
            self._take(made)
            self._bound = backend.bind(self._made)

    def fill(self, arrays: Mapping[str, NDArray[Any]], start: int, stop: int) -> bool:
        """Takes rows [start, stop) of arrays of the specs' dtypes and shapes; returns whether all are in the bounds.

        Padding rows always hold the same fixed example, never an earlier caller's observations.
        """
        count = stop - start
        if count < self._used:
            self._reset(count)
        self._used = count
        for index, (name, view, zero_copy) in enumerate(self._fields):
            rows = arrays[name][start:stop]
            if not zero_copy:
                view[:count] = rows
            # Only what torch takes: the usual strides (numpy also calls a reversed array of one row contiguous), and
            # writable, since torch warns of read-only arrays.
            elif count == self.rows and rows.strides == view.strides and rows.flags.writeable:
                self._bound.replace(index, rows)
            else:
                view[:count] = rows
                self._bound.replace(index, view)
        inside = bool(((self._flat >= self._low) & (self._flat <= self._high)).all())  # False for a NaN
        for view, spec in self._bounded_images:
            inside = inside and bool(((view >= spec.lows) & (view <= spec.highs)).all())
        for view in self._whole:
            inside = inside and bool((view == np.rint(view)).all())
        if not inside:
            self._reset()
            self._used = 0
        return inside

    def run(self) -> Arrays:
        """Runs the graph on the filled rows; its outputs, each (T, width), may be overwritten by the next run."""
        if self._features is not None:
            self._take(self._features(self._views))
        if self._memory:
            return [output.reshape(self.rows, -1) for output in self._bound.run()]
        return self._bound.run()

    def _take(self, made: Arrays) -> None:
        for buffer, array in zip(self._made, made, strict=True):
            buffer[:] = array

    def _reset(self, first: int = 0) -> None:
        for view, example in zip(self._views, self._examples, strict=True):
            view[first:] = example


def _size(spec: ArraySpec) -> int:
    return int(np.prod(spec.shape, dtype=np.int64))


def _lows(spec: ArraySpec) -> NDArray[Any]:
    return spec.lows


def _highs(spec: ArraySpec) -> NDArray[Any]:
    return spec.highs


def _allows_zero_copy(spec: ArraySpec, rows: int) -> bool:
    # Only arrays that the graph converts before it computes, so that their address can't change the bits.
    return spec.is_full and rows * _size(spec) >= ZERO_COPY_BYTES
