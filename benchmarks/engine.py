"""python -m benchmarks.engine [ARTIFACT …]: the time of a decision beside that of the bare graph, strict and not.

raw     one call of the backend on the whole batch, arrays in, arrays out; in OpenVINO, and in free too, through a graph
        of any shape, where strict has one compiled for each shape
strict  act(): checks, fixed batch shapes, head, control; the mode that the server uses
free    act() with every batch in one call, where a row's bits depend on its batch
auto    strict act() with the backend that `--backend auto` chooses, beside the faster of the two
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.policies.networks import NETWORKS
from benchmarks.speed.baseline import LESS, Figure, Figures, add_baseline, conclude
from benchmarks.support.command_line import parser_of
from benchmarks.support.percentiles import median
from benchmarks.support.table import Column, Table
from carla_mlflow import Artifact, Engine, open_artifact
from carla_mlflow.backends.loading import runnable_backends
from carla_mlflow.inference.backend_choice import load_fastest
from training_export.export.export import export_policy

ROWS = (1, 8, 32, 256)
SECONDS = 1.0
ROUNDS = 5
STAGES = ("check_ms", "inference_ms", "control_ms")
COLUMNS = (
    Column("rows", 5),
    Column("raw µs", 11, ".1f"),
    Column("strict", 11, ".1f"),
    Column("+µs", 8, ".1f"),
    Column("×raw", 7, ".2f"),
    Column("free", 11, ".1f"),
    Column("×raw", 7, ".2f"),
    Column("strict/free", 13, ".2f"),
)
TABLE = Table("", 12, COLUMNS)
Batch = dict[str, NDArray[Any]]


def medians_us(calls: dict[str, Callable[[], Any]], clock: Callable[[], float]) -> dict[str, float]:
    """Median microseconds of each call by a clock; the calls alternate, so that a noisy moment affects all of them."""
    timings: dict[str, list[float]] = {name: [] for name in calls}
    for call in calls.values():
        call()
    for _ in range(ROUNDS):
        for name, call in calls.items():
            ends = time.perf_counter() + SECONDS / ROUNDS
            while True:
                began = clock()
                call()
                timings[name].append((clock() - began) * 1e6)
                if time.perf_counter() > ends:
                    break
    return {name: median(values) for name, values in timings.items()}


def report(label: str, artifact: Artifact, sizes: Sequence[int], clock: Callable[[], float]) -> Figures:
    """Prints the table of one policy, for batches of these sizes."""
    figures: Figures = {}
    rng = np.random.default_rng(0)
    specs = artifact.card.observation_spec
    batch = {spec.name: spec.sample(rng, max(ROWS)) for spec in specs}
    backends = runnable_backends(artifact)
    strict = {name: Engine(artifact, "cpu", name) for name in backends}
    free = {name: Engine(artifact, "cpu", name, strict=False) for name in backends}
    chosen = load_fastest(artifact, "cpu")[0].backend
    print(f"\n{label}; the card's backend is {artifact.card.backend}, auto chooses {chosen}")
    TABLE.print_heading()
    for rows in sizes:
        took = medians_us(calls_of(strict, free, {name: array[:rows] for name, array in batch.items()}), clock)
        figures |= {f"{label}, {rows} rows, {call}, µs": Figure(us, LESS) for call, us in took.items()}
        for name in backends:
            raw, act, whole = (took[f"{kind} {name}"] for kind in ("raw", "strict", "free"))
            TABLE.print_row(name, rows, raw, act, act - raw, act / raw, whole, whole / raw, act / whole)
        best, auto = min(took[f"strict {name}"] for name in artifact.backends), took[f"strict {chosen}"]
        TABLE.print_row("auto", rows, "", auto, note=f"   × the faster: {auto / best:.2f}")
    for name, engine in strict.items():
        print(f"{name}: one row, µs: {_stages(engine, batch)}")
        print(f"{name}: batch shapes that give the same bits: {engine.tile_rows}; {_dependent(engine, batch)}")
    return figures


def calls_of(strict: dict[str, Engine], free: dict[str, Engine], batch: Batch) -> dict[str, Callable[[], Any]]:
    """What is measured on one batch, each by its name: every backend bare, strict and free."""
    inputs = list(batch.values())
    calls: dict[str, Callable[[], Any]] = {}
    for name in strict:
        calls[f"raw {name}"] = partial(strict[name].backend_call, inputs)
        calls[f"strict {name}"] = partial(strict[name].act, batch)
        calls[f"free {name}"] = partial(free[name].act, batch)
    return calls


def _stages(engine: Engine, batch: Batch) -> str:
    """The median microseconds of each stage of a decision for one row, in words."""
    decisions = [engine.act({name: array[:1] for name, array in batch.items()}) for _ in range(200)]
    took = {stage: 1e3 * median([getattr(each, stage) for each in decisions]) for stage in STAGES}
    return ", ".join(f"{stage.removesuffix('_ms')} {us:.1f}" for stage, us in took.items())


def _dependent(engine: Engine, batch: Batch) -> str:
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
    parser.add_argument("--rows", type=int, nargs="+", default=ROWS, help="sizes of batches, at most 256")
    parser.add_argument(
        "--cpu-time",
        action="store_true",
        help="measure the calling thread's time on a core, not the time by the clock: on a machine that others load",
    )
    add_baseline(parser)
    options = parser.parse_args()
    torch.set_num_threads(1)
    clock = time.thread_time if options.cpu_time else time.perf_counter
    print("one thread; medians" + (" of the time on a core" if options.cpu_time else ""))
    figures: Figures = {}
    for path in options.artifact:
        figures |= report(str(path), open_artifact(path), options.rows, clock)
    if not options.artifact:
        for label, build in NETWORKS.items():
            figures |= report(label, export_policy(build(), "benchmark", "0.0.0", label).artifact, options.rows, clock)
    return conclude(figures, options)


if __name__ == "__main__":
    sys.exit(main())
