"""python -m benchmarks.engine [ARTIFACT …]: the time of a decision beside that of the bare graph, strict and not.

raw     one call of the backend on the whole batch, arrays in, arrays out
strict  act(): checks, fixed batch shapes, head, control; the mode that the server uses
free    act() with every batch in one call, where a row's bits depend on its batch
auto    strict act() with the backend that `--backend auto` chooses, beside the faster of the two
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.baseline import LESS, Figure, Figures, add_baseline, conclude
from benchmarks.command_line import parser_of
from benchmarks.networks import NETWORKS
from carla_mlflow import Artifact, Engine, open_artifact
from carla_mlflow.inference.backend_choice import load_fastest
from training_export.export.export import export_policy

ROWS = (1, 8, 32, 256)
SECONDS = 1.0
ROUNDS = 5


def medians_us(calls: dict[str, Callable[[], Any]]) -> dict[str, float]:
    """Median microseconds of each call; the calls alternate, so that a noisy moment affects all of them."""
    timings: dict[str, list[float]] = {name: [] for name in calls}
    for call in calls.values():
        call()
    for _ in range(ROUNDS):
        for name, call in calls.items():
            ends = time.perf_counter() + SECONDS / ROUNDS
            while True:
                began = time.perf_counter()
                call()
                now = time.perf_counter()
                timings[name].append((now - began) * 1e6)
                if now > ends:
                    break
    return {name: float(np.median(values)) for name, values in timings.items()}


def report(label: str, artifact: Artifact) -> Figures:
    """Prints the table of one policy."""
    figures: Figures = {}
    rng = np.random.default_rng(0)
    specs = artifact.card.observation_spec
    batch = {spec.name: spec.sample(rng, max(ROWS)) for spec in specs}
    strict = {name: Engine(artifact, "cpu", name) for name in artifact.backends}
    free = {name: Engine(artifact, "cpu", name, strict=False) for name in artifact.backends}
    chosen = load_fastest(artifact, "cpu")[0].backend
    print(f"\n{label}; the card's backend is {artifact.card.backend}, auto chooses {chosen}")
    print(
        f"{'':12}{'rows':>5}{'raw µs':>11}{'strict':>11}{'+µs':>8}{'×raw':>7}{'free':>11}{'×raw':>7}{'strict/free':>13}"
    )
    for rows in ROWS:
        part = {name: array[:rows] for name, array in batch.items()}
        inputs = list(part.values())
        calls: dict[str, Callable[[], Any]] = {}
        for name in artifact.backends:
            calls[f"raw {name}"] = lambda e=strict[name], i=inputs: e.backend_call(i)  # type: ignore[misc]
            calls[f"strict {name}"] = lambda e=strict[name], p=part: e.act(p)  # type: ignore[misc]
            calls[f"free {name}"] = lambda e=free[name], p=part: e.act(p)  # type: ignore[misc]
        took = medians_us(calls)
        figures |= {f"{label}, {rows} rows, {call}, µs": Figure(us, LESS) for call, us in took.items()}
        for name in artifact.backends:
            raw, act, whole = (took[f"{kind} {name}"] for kind in ("raw", "strict", "free"))
            print(
                f"{name:12}{rows:>5}{raw:>11.1f}{act:>11.1f}{act - raw:>8.1f}{act / raw:>7.2f}{whole:>11.1f}"
                f"{whole / raw:>7.2f}{act / whole:>13.2f}"
            )
        best = min(took[f"strict {name}"] for name in artifact.backends)
        print(f"{'auto':12}{rows:>5}{'':>11}{took[f'strict {chosen}']:>11.1f}   × the faster: ", end="")
        print(f"{took[f'strict {chosen}'] / best:.2f}")
    for name, engine in strict.items():
        stages = [engine.act({k: v[:1] for k, v in batch.items()}) for _ in range(200)]
        parts = {k: 1e3 * float(np.median([getattr(a, k) for a in stages])) for k in STAGES}
        print(f"{name}: one row, µs: " + ", ".join(f"{k.removesuffix('_ms')} {us:.1f}" for k, us in parts.items()))
        print(f"{name}: tiles of the same bits: {engine.tile_rows}; {_dependent(engine, batch)}")
    return figures


STAGES = ("check_ms", "inference_ms", "control_ms")


def _dependent(engine: Engine, batch: dict[str, Any]) -> str:
    """How many rows' bits depend on their batch, free and strict, in words."""
    rows = 32 if engine.specs.has_image else max(ROWS)
    ones = [{name: array[i : i + 1] for name, array in batch.items()} for i in range(rows)]
    part = {name: array[:rows] for name, array in batch.items()}
    alone = np.concatenate([np.concatenate(engine.backend_call(list(one.values())), axis=1) for one in ones])
    together = np.concatenate(engine.backend_call(list(part.values())), axis=1)
    strict = np.concatenate([engine.act(one).raw for one in ones])
    free_rows, strict_rows = (alone != together).any(axis=1), (strict != engine.act(part).raw).any(axis=1)
    return f"rows whose bits depend on their batch: free {free_rows.sum()} of {rows}, strict {strict_rows.sum()}"


def main() -> int:
    parser = parser_of(__doc__)
    parser.add_argument("artifact", type=Path, nargs="*", help="artifact folders (default: untrained networks)")
    add_baseline(parser)
    options = parser.parse_args()
    torch.set_num_threads(1)
    print("one thread; medians")
    figures: Figures = {}
    for path in options.artifact:
        figures |= report(str(path), open_artifact(path))
    if not options.artifact:
        for label, build in NETWORKS.items():
            figures |= report(label, export_policy(build(), "benchmark", "0.0.0", label).artifact)
    return conclude(figures, options)


if __name__ == "__main__":
    sys.exit(main())
