"""python -m benchmarks.startup MODEL [flag …]: time from start to first response, a worker's memory, time to stop.

When MODEL is a folder, each backend that it has a graph for is measured, since a server with ONNX does not import
torch; otherwise the card's backend is.
"""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import httpcore
import msgspec
import psutil

from benchmarks.command_line import EXAMPLE, parser_of
from benchmarks.free_port import free_port
from carla_mlflow import open_artifact

ROUNDS = 5


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("model", help="artifact folder or reference; further arguments go to carla-serve")
    options, flags = parser.parse_known_args()
    model = options.model
    example = open_artifact(EXAMPLE).card.observation_spec.example()
    body = msgspec.json.encode({"observations": [{name: array[0].tolist() for name, array in example.items()}]})
    backends = open_artifact(Path(model)).backends if Path(model).is_dir() else ("card",)
    print(f"{' '.join([model, *flags])}: {ROUNDS} starts each")
    starts = [backend for _ in range(ROUNDS) for backend in backends]  # alternating, so that a noisy moment affects all
    rounds = [(backend, measure([model, "--backend", backend, *flags], body)) for backend in starts]
    for backend in backends:
        first, resident, stopped = zip(*(found for name, found in rounds if name == backend), strict=True)
        print(f"{backend:12} first answer, s: " + " ".join(f"{seconds:.2f}" for seconds in first))
        print(f"{'':12} worker's resident memory, MB: " + " ".join(f"{size / 1e6:.0f}" for size in resident))
        print(f"{'':12} SIGTERM to exit, s: " + " ".join(f"{seconds:.2f}" for seconds in stopped))


def measure(arguments: list[str], body: bytes) -> tuple[float, float, float]:
    """Seconds from start to the first response, a worker's resident bytes then, and seconds from SIGTERM to exit."""
    port = free_port()
    program = str(Path(sys.executable).parent / "carla-serve")
    command = [program, "--port", str(port), "--log-level", "error", "--model", *arguments]
    started = time.perf_counter()
    server = subprocess.Popen(command)
    headers = {"Host": "localhost", "Content-Type": "application/json"}
    while server.poll() is None:
        try:
            url = f"http://127.0.0.1:{port}/predict"
            if httpcore.request("POST", url, headers=headers, content=body).status == 200:
                break
        except (httpcore.NetworkError, httpcore.ProtocolError):
            pass
        time.sleep(0.01)
    answered = time.perf_counter() - started
    resident = max(child.memory_info().rss for child in psutil.Process(server.pid).children())
    server.terminate()
    started = time.perf_counter()
    server.wait()
    return answered, resident, time.perf_counter() - started


if __name__ == "__main__":
    main()
