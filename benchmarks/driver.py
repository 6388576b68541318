"""python -m benchmarks.driver [FOLDER]: what the car's driver adds to a decision, over TCP, a Unix socket, in process.

Each tick decides. A tick's time is the decision (request to response) and the driver's own part: observing, batching,
counting, and making the control. Beams and bird's eye views cost more: python -m benchmarks.bird_view.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.support.command_line import EXAMPLE, parser_of
from benchmarks.support.our_server import OurServer
from benchmarks.support.percentiles import median, p99
from benchmarks.support.table import Column, Table
from carla_agent import Driver
from carla_mlflow import Engine, ObservationSpec, Policy, PolicyClient

TABLE = Table(
    "policy",
    14,
    (
        Column("ask p50, ms", 14, ".3f"),
        Column("p99", 9, ".3f"),
        Column("driver p50, ms", 18, ".3f"),
        Column("p99", 9, ".3f"),
    ),
)
ROUNDS = 5
WARM_UP = 200


class Recorded:
    """An observer that gives the artifact's golden observations, one after another."""

    def __init__(self, engine: Engine) -> None:
        self.spec: ObservationSpec = engine.card.observation_spec
        self._golden = engine.golden.observations
        self._rows = len(next(iter(self._golden.values())))

    def reset(self) -> None:
        """Nothing is kept."""

    def observe(self, snapshot: Any) -> Mapping[str, NDArray[Any]]:
        row = snapshot.frame % self._rows
        return {name: array[row] for name, array in self._golden.items()}


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("folder", nargs="?", type=Path, default=EXAMPLE, help="artifact (default examples/v0.1.0)")
    parser.add_argument("--ticks", type=int, default=2000, help="in each of five rounds (default %(default)s)")
    options = parser.parse_args()
    engine = Engine.open(options.folder, device="cpu")
    with tempfile.TemporaryDirectory() as folder:
        socket = Path(folder) / "policy.sock"
        with (
            OurServer("--model", str(options.folder)) as tcp,
            OurServer("--model", str(options.folder), socket=socket),
            PolicyClient(f"http://127.0.0.1:{tcp.port}") as over_tcp,
            PolicyClient(f"unix:{socket}") as over_socket,
        ):
            compare({"TCP": over_tcp, "Unix socket": over_socket, "in process": engine}, engine, options.ticks)


def compare(policies: Mapping[str, Policy], engine: Engine, ticks: int) -> None:
    """Measures each policy in turn, round by round, and prints the table."""
    asks: dict[str, list[NDArray[np.float64]]] = {name: [] for name in policies}
    own: dict[str, list[NDArray[np.float64]]] = {name: [] for name in policies}
    for _ in range(ROUNDS):
        for name, policy in policies.items():
            ask_ms, driver_ms = drive(policy, engine, ticks)
            asks[name].append(ask_ms)
            own[name].append(driver_ms)
    TABLE.print_heading()
    for name in policies:
        ask, driver = np.concatenate(asks[name]), np.concatenate(own[name])
        TABLE.print_row(name, median(ask), p99(ask), median(driver), p99(driver))


def drive(policy: Policy, engine: Engine, ticks: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Milliseconds of every tick: of the request, and of the driver beside it."""
    rate_hz = policy.card.action.rate_hz
    driver = Driver(policy, [Recorded(engine)], world_hz=rate_hz, budget_ms=1000)
    driver.reset()
    whole = []
    for frame in range(ticks + WARM_UP):
        snapshot = SimpleNamespace(frame=frame, timestamp=SimpleNamespace(elapsed_seconds=frame / rate_hz))
        began = time.perf_counter()
        driver.step(snapshot)
        whole.append((time.perf_counter() - began) * 1e3)
    ask = np.array(driver.record.latencies_ms)
    if len(ask) != len(whole):
        raise SystemExit(f"{len(whole) - len(ask)} decisions were late: this machine is too busy to measure")
    return ask[WARM_UP:], (np.array(whole) - ask)[WARM_UP:]


if __name__ == "__main__":
    main()
