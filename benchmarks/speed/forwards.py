"""The bare forward in this process: the upper limit for any server of the same graph on these cores."""

from __future__ import annotations

import threading
import time
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.policies.serving_policies import MAX_ROWS, Asked

ROWS = (1, 2, 8, 32, MAX_ROWS)


def forwards(asked: Asked, threads: int, seconds: float) -> dict[int, float]:
    """Rows per call → observations per second of the graph alone, called from several threads at once."""
    arrays, state = list(asked.batches[MAX_ROWS][0].values()), asked.states[MAX_ROWS][0]
    if state:
        arrays += [np.zeros(MAX_ROWS, np.float32), *state.values()]  # no row begins
    inputs = {rows: [np.ascontiguousarray(array[:rows]) for array in arrays] for rows in ROWS}
    return {rows: _rate(asked, inputs[rows], rows, threads, seconds / len(ROWS)) for rows in ROWS}


def _rate(asked: Asked, inputs: list[NDArray[Any]], rows: int, threads: int, seconds: float) -> float:
    call, counts = asked.engine.backend_call, [0] * threads
    call(inputs)
    ends = time.perf_counter() + seconds

    def run(index: int) -> None:
        while time.perf_counter() < ends:
            call(inputs)
            counts[index] += rows

    workers = [threading.Thread(target=run, args=(index,)) for index in range(threads)]
    began = time.perf_counter()
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return sum(counts) / (time.perf_counter() - began)
