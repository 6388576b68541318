"""Strict determinism: the graph runs only on a few fixed batch shapes, verified to give the same bits.

A matrix product may round differently for another number of rows, so a row's action would depend on the rows batched
with it, and with some kernels on its position among them. Here every forward pass has one of a few batch shapes. The
reference is 8 rows, for large images 1. When a policy is loaded, each shape runs a sample of observations in several
orders, and is used only if every row got the reference's bits each time (see `shape_verification`). Which shapes pass
depends on the backend's kernels (ONNX Runtime: all; MKL: from 4 rows on; OpenVINO: all, or up to 8 rows, by network).
Large images are tried in larger shapes only where these save time, as many networks take as long in a batch as row by
row. docs/adr/0004 and 0006 have the figures.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..backends.backend import Backend, Features
from ..contract.specs import ObservationSpec
from ..errors import SpecError
from .shape_verification import sample_rows, verification_sample, verified_shapes
from .workspace import Workspace

REFERENCE_ROWS = 8
SHAPES = (1, 4, 8, 16, 32, 64, 128, 256)
LARGE_SHAPES = (1, 4, 8)
"""Those tried for large images, where larger ones hardly save more."""
MAX_SAMPLE_S = 1.0
"""Seconds that the sample of large images may take row by row: it is run several times."""
SAVES, TIMED_CALLS = 0.85, 4
"""A shape saves time if a row takes at most this part of what it takes in the next smaller one; calls to see that."""
WARM_UP_CALLS = 4
"""TorchScript specialises itself during its first calls (measured: 56, 0.7, then 0.04 ms)."""


class Forward(NamedTuple):
    """The graph's outputs side by side, float32 (B, sum of widths), and how long the stages took, seconds."""

    outputs: NDArray[np.float32]
    check_s: float
    forward_s: float


class PaddedRunner:
    """Runs batches of any size through a graph, in verified batch shapes. Safe to call from several threads."""

    def __init__(
        self,
        backend: Backend,
        specs: ObservationSpec,
        width: int,
        features: Features | None,
        golden: Mapping[str, NDArray[Any]],
        memory: bool = False,
    ) -> None:
        """Binds, warms up and verifies the batch shapes.

        Args:
            backend: with the loaded graph.
            specs: of the card's inputs: the observations and, with a memory, `reset` and the states.
            width: of all outputs together.
            features: preprocessing outside the graph; None if there is none.
            golden: inputs that the policy saw in training; the shapes are verified on these among others.
            memory: whether the policy has one.
        """
        self._backend, self._specs, self._width, self._features = backend, specs, width, features
        self._memory = memory
        reference = 1 if specs.is_large else REFERENCE_ROWS
        self._idle: dict[int, list[Workspace]] = {}
        self._use((reference,))
        shapes = self._saving(golden) if specs.is_large else SHAPES
        if shapes == (reference,):
            return
        try:
            self._verify_shapes(shapes, reference, golden)
        except backend.out_of_memory:
            if reference > 1:
                raise
            self._idle = {1: self._idle[1]}
            self._use((1,))

    @property
    def shapes(self) -> tuple[int, ...]:
        """The batch shapes in use, in rows, ascending."""
        return self._shapes

    def forward(self, arrays: Mapping[str, NDArray[Any]], rows: int) -> Forward:
        """Checks and runs a batch.

        Raises:
            SpecError: a value is not finite or outside its bounds; names the row.
        """
        outputs = np.empty((self._width, rows), dtype=np.float32).T  # numpy's loops then run along the rows
        while True:
            try:
                return self._forward(arrays, outputs)
            except self._backend.out_of_memory:
                if len(self._shapes) == 1:
                    raise
                self._idle[self._shapes[-1]].clear()
                self._use(self._shapes[:-1])  # smaller shapes give the same bits

    def _forward(self, arrays: Mapping[str, NDArray[Any]], outputs: NDArray[np.float32]) -> Forward:
        start, check_s, forward_s = 0, 0.0, 0.0
        for shape in self._plan(len(outputs)):
            stop = min(start + shape, len(outputs))
            workspace = self._take(shape)
            try:
                began = time.perf_counter()
                if not workspace.fill(arrays, start, stop):
                    self._specs.validate(arrays)  # raises, and says where
                    raise SpecError("observations", "do not fit the policy's bounds")
                checked = time.perf_counter()
                column = 0
                for output in workspace.run():
                    width = output.shape[1]
                    outputs[start:stop, column : column + width] = output[: stop - start]
                    column += width
            finally:
                self._idle[shape].append(workspace)
            check_s += checked - began
            forward_s += time.perf_counter() - checked
            start = stop
        return Forward(outputs, check_s, forward_s)

    def _take(self, shape: int) -> Workspace:
        try:
            return self._idle[shape].pop()
        except IndexError:  # all are in use by other threads
            return Workspace(self._backend, self._specs, shape, self._features, self._memory)

    def _use(self, shapes: tuple[int, ...]) -> None:
        self._idle.update({shape: self._idle.get(shape, []) for shape in shapes})
        self._shapes = shapes
        self._plan = functools.lru_cache(maxsize=4096)(functools.partial(plan, shapes))

    def _saving(self, golden: Mapping[str, NDArray[Any]]) -> tuple[int, ...]:
        """The shapes for large rows that save time here, as far as they can be verified in reasonable time."""
        found, rows = [1], sample_rows(self._specs)
        if rows and rows * self._timed(1, golden) <= MAX_SAMPLE_S:
            for shape in LARGE_SHAPES[1:]:
                try:
                    if not self._saves(shape, found[-1], golden):
                        break
                except self._backend.out_of_memory:
                    break
                found.append(shape)
        self._idle = {shape: self._idle[shape] for shape in found}
        self._use(tuple(found))
        return self._shapes

    def _saves(self, shape: int, smaller: int, golden: Mapping[str, NDArray[Any]]) -> bool:
        """Whether a row takes less time in a shape than in a smaller one."""
        pairs = [(self._timed(smaller, golden), self._timed(shape, golden)) for _ in range(TIMED_CALLS)]
        smaller_s, took_s = map(min, zip(*pairs, strict=True))  # timed in turn, as others may need the cores meanwhile
        return bool(took_s <= SAVES * shape / smaller * smaller_s)

    def _timed(self, shape: int, golden: Mapping[str, NDArray[Any]]) -> float:
        """Seconds of one forward of that shape."""
        batch = self._warm_up(shape, golden)
        forward = self.forward(batch, shape)
        return forward.check_s + forward.forward_s

    def _verify_shapes(self, shapes: tuple[int, ...], reference: int, golden: Mapping[str, NDArray[Any]]) -> None:
        sample = verification_sample(self._specs, golden, self._features is None, self._memory)
        verified = verified_shapes(shapes, reference, sample, self._run_in_shape)
        self._idle = {shape: self._idle.get(shape, []) for shape in verified}
        self._use(verified)

    def _run_in_shape(self, shape: int, observations: Mapping[str, NDArray[Any]]) -> NDArray[np.float32]:
        self._warm_up(shape, observations)
        return self.forward(observations, len(next(iter(observations.values())))).outputs

    def _warm_up(self, shape: int, observations: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Uses that shape only, from now on, after some calls if it is new; returns a batch of it."""
        self._use((shape,))
        batch = {name: np.resize(array, (shape, *array.shape[1:])) for name, array in observations.items()}
        for _ in range(0 if self._idle[shape] else WARM_UP_CALLS):
            self.forward(batch, shape)
        return batch


def plan(shapes: tuple[int, ...], rows: int) -> tuple[int, ...]:
    """The batch shapes for that many rows, in order.

    Each is the smallest that holds all rows left, if they fill at least half of it, else the largest that they fill.
    """
    planned: list[int] = []
    left = rows
    while left > 0:
        holding = next((shape for shape in shapes if left <= shape <= 2 * left), None)
        planned.append(holding or max((shape for shape in shapes if shape <= left), default=shapes[0]))
        left -= planned[-1]
    return tuple(planned)
