"""python -m benchmarks.memory [ARTIFACT]: resident memory over 200,000 act() calls of mixed sizes, and its slope."""

from __future__ import annotations

import gc
import time

import numpy as np
import psutil
from tqdm import tqdm

from benchmarks.support.command_line import add_artifact, parser_of
from carla_mlflow import Engine, open_artifact
from carla_mlflow.backends.loading import runnable_backends

CALLS, LOOKS = 200_000, 40
MAX_ROWS = 300


def main() -> None:
    parser = parser_of(__doc__)
    add_artifact(parser)
    artifact = open_artifact(parser.parse_args().artifact)
    process = psutil.Process()
    for backend in runnable_backends(artifact):
        engine = Engine(artifact, "cpu", backend)
        rng = np.random.default_rng(0)
        batch = {spec.name: spec.sample(rng, MAX_ROWS) for spec in engine.specs}
        sizes = np.minimum(rng.geometric(0.05, CALLS), MAX_ROWS)  # mostly a few rows, now and then many
        resident, began = [], time.perf_counter()
        for look in tqdm(range(LOOKS), backend, leave=False, disable=None):
            for rows in sizes[look * CALLS // LOOKS : (look + 1) * CALLS // LOOKS]:
                engine.act({name: array[:rows] for name, array in batch.items()})
            gc.collect()
            resident.append(process.memory_info().rss)
        settled = np.array(resident[LOOKS // 4 :], dtype=np.float64)  # without what the first calls allocate once
        slope = np.polyfit(np.arange(len(settled)) * CALLS / LOOKS, settled, 1)[0]
        seconds, first, last = time.perf_counter() - began, resident[0] / 1e6, resident[-1] / 1e6
        print(f"{backend}: {CALLS:,} calls in {seconds:.0f} s; resident {first:.1f} MB, then {last:.1f} MB; ", end="")
        print(f"slope {slope:+.3f} bytes a call")


if __name__ == "__main__":
    main()
