"""python -m benchmarks.engine [ARTIFACT]: what a decision costs, and what strict determinism costs of that."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from carla_mlflow import Engine

ROWS = (1, 8, 32, 256)


def median_us(call: Callable[[], Any], seconds: float = 1.0) -> float:
    """Median time of one call, microseconds, over about `seconds`."""
    timings = []
    ends = time.perf_counter() + seconds
    while time.perf_counter() < ends:
        started = time.perf_counter()
        call()
        timings.append(time.perf_counter() - started)
    return float(np.median(timings) * 1e6)


def main() -> None:
    torch.set_num_threads(1)
    engine = Engine.open(sys.argv[1] if len(sys.argv) > 1 else "examples/v0.1.0", device="cpu")
    graph = engine.backend_call
    rng = np.random.default_rng(0)
    batch = {spec.name: spec.sample(rng, max(ROWS)) for spec in engine.specs}
    print(f"{engine.card.name} {engine.card.version}, {engine.backend}, one thread; median µs")
    print(f"{'rows':>6}{'graph, free batch':>20}{'act(), strict':>16}{'ratio':>8}")
    for rows in ROWS:
        part = {name: array[:rows] for name, array in batch.items()}
        inputs = list(part.values())
        raw, act = median_us(lambda i=inputs: graph(i)), median_us(lambda p=part: engine.act(p))  # type: ignore[misc]
        print(f"{rows:>6}{raw:>20.1f}{act:>16.1f}{act / raw:>8.2f}")
    alone = np.concatenate([graph([array[i : i + 1] for array in batch.values()])[0] for i in range(max(ROWS))])
    together = graph(list(batch.values()))[0]
    strict = np.concatenate([engine.act({k: v[i : i + 1] for k, v in batch.items()}).raw for i in range(max(ROWS))])
    print(
        f"rows whose bits depend on their batch: free {(alone != together).any(axis=1).sum()} of {max(ROWS)}, ", end=""
    )
    print(f"strict {(strict != engine.act(batch).raw).any(axis=1).sum()}")


if __name__ == "__main__":
    main()
