"""python -m benchmarks.startup MODEL [flag …]: time from start to first response, a worker's memory, time to stop.

When MODEL is a folder, each backend that runs it here is measured, since a server with ONNX or OpenVINO does not
import torch; otherwise the card's backend is.
"""

from __future__ import annotations

import time
from pathlib import Path

from benchmarks.support.command_line import EXAMPLE, parser_of
from benchmarks.support.encoding import predict_request
from benchmarks.support.our_server import OurServer
from carla_mlflow import open_artifact
from carla_mlflow.backends.loading import runnable_backends

ROUNDS = 5


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("model", help="artifact folder or reference; further arguments go to carla-serve")
    options, flags = parser.parse_known_args()
    model = options.model
    request = predict_request(open_artifact(EXAMPLE).card.observation_spec.example())
    backends = runnable_backends(open_artifact(Path(model))) if Path(model).is_dir() else ("card",)
    print(f"{' '.join([model, *flags])}: {ROUNDS} starts each")
    starts = [backend for _ in range(ROUNDS) for backend in backends]  # alternating, so that a noisy moment affects all
    rounds = [(backend, measure([model, "--backend", backend, *flags], request)) for backend in starts]
    for backend in backends:
        first, resident, stopped = zip(*(found for name, found in rounds if name == backend), strict=True)
        print(f"{backend:12} first answer, s: " + " ".join(f"{seconds:.2f}" for seconds in first))
        print(f"{'':12} worker's resident memory, MB: " + " ".join(f"{size / 1e6:.0f}" for size in resident))
        print(f"{'':12} SIGTERM to exit, s: " + " ".join(f"{seconds:.2f}" for seconds in stopped))


def measure(arguments: list[str], request: bytes) -> tuple[float, float, float]:
    """Seconds from start to the first response, a worker's resident bytes then, and seconds from SIGTERM to exit."""
    with OurServer("--model", *arguments, request=request, is_quiet=False) as server:
        if server.first.status != 200:
            raise SystemExit(f"{server.first.status} {server.first.body[:200]!r}")
        resident = max(worker.memory_info().rss for worker in server.workers())
        server.process.terminate()
        began = time.perf_counter()
        server.process.wait()
        return server.started_s, resident, time.perf_counter() - began


if __name__ == "__main__":
    main()
