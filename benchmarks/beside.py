"""python -m benchmarks.beside [--rounds 5 --seconds 5 --rows 1024 --large 2]: how long does one row wait beside many?

A server answers an MLP of two million weights, some 0.4 ms a row. A caller that asks for one row at a time is measured
alone and, in turn, beside callers that ask for many rows at a time. Prints the medians of the rounds, and checks that
every answer has the engine's bits. The aim: its p99 beside them is at most twice that alone, plus 3 ms.
"""

from __future__ import annotations

import contextlib
import itertools
import sys
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

from benchmarks.policies.networks import FULL_BRAKE, UNIT
from benchmarks.speed.own_load import own_load
from benchmarks.speed.wrk import Found, write_requests
from benchmarks.support.command_line import add_workers, parser_of
from benchmarks.support.connection import Connection
from benchmarks.support.encoding import from_json, predict_request
from benchmarks.support.our_server import OurServer
from benchmarks.support.percentiles import median
from benchmarks.support.table import Column, Table
from carla_mlflow import Engine, write_artifact
from carla_mlflow.contract.action_card import ActionCard
from carla_mlflow.contract.field_card import FieldCard
from training_export.export.export import export_policy
from training_export.sources.draft import CardDraft
from training_export.sources.from_module import from_network
from training_export.sources.preprocessed import Preprocessed

WIDTH, LAYERS, FEATURES = 1024, 2, 16
TABLE = Table(
    "one row at a time",
    24,
    (
        Column("requests/s", 12, ",.0f"),
        Column("p50 ms", 9, ".2f"),
        Column("p99 ms", 9, ".2f"),
        Column("large/s", 9, ".1f"),
        Column("aim ms", 9, ".2f"),
    ),
)


def main() -> int:
    parser = parser_of(__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=5, help="length of each load (default 5)")
    parser.add_argument("--rows", type=int, default=1024, help="observations of a large request (default 1024)")
    parser.add_argument("--large", type=int, default=2, help="callers of large requests (default 2)")
    add_workers(parser, 1)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        artifact = write_wide_policy(folder / "policy")
        engine, rng = Engine.open(artifact, device="cpu"), np.random.default_rng(0)
        one_row_ms, all_ms = (median(engine.warm_up(rows, 9)) for rows in (1, options.rows))
        print(f"{engine.backend}: one row {one_row_ms:.2f} ms, {options.rows} rows {all_ms:.1f} ms")
        requests = write_requests(folder / "requests", [predict_request(drawn(rng, 1)) for _ in range(256)])
        large = LargeCallers(options.large, [drawn(rng, options.rows) for _ in range(4)], engine)
        with OurServer("--model", str(artifact), "--workers", str(options.workers)) as server:
            own_load(server.port, requests, 1, 2)
            return print_table(*measure(server.port, requests, large, options.rounds, options.seconds))


def write_wide_policy(folder: Path) -> Path:
    """Exports the untrained MLP; returns its folder."""
    torch.manual_seed(0)
    sizes = [FEATURES, *[WIDTH] * (LAYERS + 1)]
    layers = [part for pair in itertools.pairwise(sizes) for part in (torch.nn.Linear(*pair), torch.nn.ReLU())]
    network = torch.nn.Sequential(*layers, torch.nn.Linear(WIDTH, 2), torch.nn.Tanh()).eval()
    section = {"state": FieldCard("float32", [FEATURES], -10.0, 10.0)}
    raw = {"acceleration": UNIT, "steer": UNIT}
    action = ActionCard("deterministic", raw, "acceleration_steer", 10.0, FULL_BRAKE)
    trained = from_network("wide", network, CardDraft(), section, action, Preprocessed())
    return write_artifact(
        folder, export_policy(trained, "wide", "1.0.0", "an MLP of two million weights").artifact
    ).path


def drawn(rng: np.random.Generator, rows: int) -> dict[str, np.ndarray]:
    """Observations."""
    return {"state": rng.standard_normal((rows, FEATURES)).astype(np.float32).round(4)}


@dataclass
class LargeCallers:
    """Callers of large requests, each of which sends the next one after a response.

    Attributes:
        answered: responses so far.
        wrong: those that are not the engine's bits with status 200.
    """

    count: int
    batches: list[dict[str, np.ndarray]]
    engine: Engine
    answered: int = 0
    wrong: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @contextlib.contextmanager
    def calling(self, port: int) -> Iterator[None]:
        """Has them call while the block runs."""
        stop = threading.Event()
        threads = [threading.Thread(target=self._call, args=(port, stop, n)) for n in range(self.count)]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            stop.set()
            for thread in threads:
                thread.join()

    def _call(self, port: int, stop: threading.Event, turn: int) -> None:
        requests = [predict_request(batch) for batch in self.batches]
        wanted = [self.engine.act(batch).control.tobytes() for batch in self.batches]
        with Connection(port) as connection:
            while not stop.is_set():
                turn = (turn + 1) % len(requests)
                response = connection.ask(requests[turn])
                is_right = response.status == 200 and from_json(response.body).tobytes() == wanted[turn]
                with self._lock:
                    self.answered, self.wrong = self.answered + 1, self.wrong + (not is_right)


def measure(
    port: int, requests: Path, large: LargeCallers, rounds: int, seconds: int
) -> tuple[list[Found], list[Found], list[float], int]:
    """Alone and beside, round by round; the large requests per second, and how many answers were wrong."""
    alone, beside, rates = [], [], []
    for _ in range(rounds):
        alone.append(own_load(port, requests, 1, seconds))
        before = large.answered
        with large.calling(port):
            beside.append(own_load(port, requests, 1, seconds))
        rates.append((large.answered - before) / beside[-1].seconds)
    return alone, beside, rates, large.wrong + sum(each.failed for each in alone + beside)


def print_table(alone: list[Found], beside: list[Found], rates: list[float], wrong: int) -> int:
    """Prints the medians; returns the exit code, 1 where an answer was wrong."""
    TABLE.print_heading()
    aim = 2 * median([each.p99_ms for each in alone]) + 3
    for name, found, rate, most in (("alone", alone, [], float("nan")), ("beside", beside, rates, aim)):
        per_second = median([each.per_second for each in found])
        p50, last = (median([getattr(each, key) for each in found]) for key in ("p50_ms", "p99_ms"))
        TABLE.print_row(name, per_second, p50, last, median(rate), most)
    print(f"{wrong} wrong or failed answers")
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
