"""Strict determinism: the graph runs only on a few fixed batch shapes, verified to give the same bits.

A matrix product may round differently for another number of rows, so a row's action would depend on the rows batched
with it, and with some kernels on its position among them. Here every forward pass has one of a few batch shapes. The
reference is 8 rows (1 for large images, where a larger batch is no faster on a CPU). When a policy is loaded, each
shape runs a sample of observations in several orders, and is used only if every row got the reference's bits each time
(see `shape_verification`). Which shapes pass depends on the backend's kernels (ONNX Runtime: all; MKL: from 4 rows on;
OpenVINO: all, or up to 8 rows, by network). docs/adr/0004 and 0006 have the figures.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..backends.backend import Arrays, Backend, Features
from ..contract.specs import ObservationSpec
from ..errors import SpecError
from .shape_verification import verification_sample, verified_shapes
from .workspace import Workspace

REFERENCE_ROWS = 8
SHAPES = (1, 4, 8, 16, 32, 64, 128, 256)
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
        if not specs.is_large:
            self._verify_shapes(reference, golden)

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

    def _verify_shapes(self, reference: int, golden: Mapping[str, NDArray[Any]]) -> None:
        sample = verification_sample(self._specs, golden, self._features is None, self._memory)
        verified = verified_shapes(SHAPES, reference, sample, self._run_in_shape)
        self._idle = {shape: self._idle.get(shape, []) for shape in verified}
        self._use(verified)

    def _run_in_shape(self, shape: int, observations: Mapping[str, NDArray[Any]]) -> NDArray[np.float32]:
        rows = len(observations[self._specs[0].name])
        self._use((shape,))
        if not self._idle[shape]:  # never used
            for _ in range(WARM_UP_CALLS):
                few = min(shape, rows)
                self.forward({name: array[:few] for name, array in observations.items()}, few)
        return self.forward(observations, rows).outputs


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


class UnpaddedRunner:
    """Runs every batch unpadded in one call: sometimes faster, but a row's bits then depend on its batch."""

    shapes: tuple[int, ...] = ()

    def __init__(self, backend: Backend, specs: ObservationSpec, features: Features | None) -> None:
        self._backend, self._specs, self._features = backend, specs, features

    def forward(self, arrays: Mapping[str, NDArray[Any]], rows: int) -> Forward:
        """As `PaddedRunner.forward`."""
        began = time.perf_counter()
        self._specs.validate(arrays)
        checked = time.perf_counter()
        outputs = self._run([np.ascontiguousarray(arrays[name]) for name in self._specs.names], rows)
        return Forward(outputs, checked - began, time.perf_counter() - checked)

    def _run(self, inputs: Arrays, rows: int) -> NDArray[np.float32]:
        try:
            given = inputs if self._features is None else self._features(inputs)
            return np.concatenate([output.reshape(rows, -1) for output in self._backend(given)], axis=1)
        except self._backend.out_of_memory:
            if rows == 1:
                raise
            half = rows // 2
            parts = [self._run([a[:half] for a in inputs], half), self._run([a[half:] for a in inputs], rows - half)]
            return np.concatenate(parts)
