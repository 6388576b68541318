"""Batches unpadded, in one call of the graph: for engines that are not strict."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..backends.backend import Arrays, Backend, Features
from ..contract.specs import ObservationSpec
from .batch_shapes import Forward


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
