"""The interface of a backend, which runs the exported graph: arrays in, arrays out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

Arrays = Sequence[NDArray[Any]]
Features = Callable[[Arrays], Arrays]
"""Preprocessing outside the graph. The card's inputs in order, each (T, *shape) → the graph's: features of all
observations, float32 (T, F), and what the card has after the observations."""
ALIGNMENT = 64
"""Bytes. Intel's MKL promises the same bits from run to run only for arrays that start at a multiple of this."""


class Bound(Protocol):
    """The graph bound to input buffers of one fixed shape."""

    def replace(self, index: int, array: NDArray[Any]) -> None:
        """Takes another C-contiguous array of the same shape and dtype as input `index`, until replaced again."""

    def run(self) -> Arrays:
        """Computes the outputs for the inputs' current contents; the next run may overwrite them."""


class Backend(Protocol):
    """The loaded graph. Safe to call from several threads; a Bound from `bind` belongs to one thread at a time."""

    name: str
    out_of_memory: type[Exception]

    def __call__(self, inputs: Arrays) -> Arrays:
        """Arrays in the card's order, each (B, *shape) → `raw` and the head's parameters, each (B, width).

        With a memory, `reset` and the states follow the observations, and the next states follow the parameters.
        """

    def allocate(self, count: int, dtype: str) -> NDArray[Any]:
        """A zeroed buffer of that many elements, placed where the device reads it fastest."""

    def bind(self, inputs: Arrays) -> Bound:
        """Binds the graph to buffers from `allocate`, each (T, *shape)."""


def aligned(count: int, dtype: str) -> NDArray[Any]:
    """A zeroed array in ordinary memory that starts at a multiple of ALIGNMENT."""
    size = count * np.dtype(dtype).itemsize
    memory = np.zeros(size + ALIGNMENT, dtype=np.uint8)
    start = -memory.ctypes.data % ALIGNMENT
    return memory[start : start + size].view(dtype)
