"""python -m benchmarks.startup MODEL [flag …]: from start to first answer, from SIGTERM to the end."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from pathlib import Path

import httpcore
import msgspec

from carla_mlflow import open_artifact

ROUNDS = 5


def main() -> None:
    example = open_artifact(Path("examples/v0.1.0")).card.observation_spec.example()
    row = {name: array[0].tolist() for name, array in example.items()}
    body = msgspec.json.encode({"observations": [row]})
    first, stopped = zip(*(measure(sys.argv[1:], body) for _ in range(ROUNDS)), strict=True)
    print(f"{' '.join(sys.argv[1:])}: {ROUNDS} starts")
    print("first answer, s: " + " ".join(f"{seconds:.2f}" for seconds in first))
    print("SIGTERM to exit, s: " + " ".join(f"{seconds:.2f}" for seconds in stopped))


def measure(arguments: list[str], body: bytes) -> tuple[float, float]:
    """Seconds from start to the first answer, and from SIGTERM to the end."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
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
    server.terminate()
    started = time.perf_counter()
    server.wait()
    return answered, time.perf_counter() - started


if __name__ == "__main__":
    main()
