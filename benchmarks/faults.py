"""python -m benchmarks.faults [--workers 2 --connections 8 --idle 10000 --only NAME]: good load during faults.

Each fault gets its own server, and steady good requests whose responses are compared bit for bit with the engine's:
first without the fault, then during it, then until the server has settled. Prints how many good requests were right,
wrong, failed (another status), dropped (accepted, then the connection ended), late (no response within 5 s) or refused
(no connection, as expected once a server has stopped), and the good load's p99 before and during the fault.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from tqdm import tqdm

from benchmarks.failures import of_clients, of_registry, of_server, settings
from benchmarks.failures.settings import LeftOut
from benchmarks.support.command_line import add_workers, parser_of
from benchmarks.support.good_load import OUTCOMES, GoodLoad
from benchmarks.support.our_server import OurServer
from benchmarks.support.table import Column, Table
from carla_mlflow import open_artifact

QUIET_S, SETTLE_S = 3.0, 2.0
PAUSE_S = 0.01
COUNTS = tuple(Column(name, 9, ",") for name in OUTCOMES)
TABLE = Table("since the fault", 26, (*COUNTS, Column("p99 ms before", 15, ".1f"), Column("during", 9, ".1f")))
Fault = Callable[[OurServer, argparse.Namespace], str]
"""Makes something fail; returns what was seen, in words."""

FAULTS: dict[str, tuple[Fault, settings.Setting]] = {
    "kill -9 of a worker, 3×": (of_server.kill_workers, settings.plain),
    "a forward hangs, 3×": (of_server.hang, settings.hanging),
    "full disk": (of_registry.fill_disk, settings.with_small_disk),
    "crash on load": (of_registry.bad_version, settings.with_crashing),
    "out of memory on load": (of_registry.bad_version, settings.with_little_memory),
    "dripping download": (of_registry.dripping, settings.with_dripping),
    "SIGHUP": (of_server.reload_settings, settings.plain),
    "SIGTERM": (of_server.terminate, settings.plain),
    "SIGTERM as PID 1": (of_server.terminate, settings.as_pid_one),
    "idle connections": (of_clients.idle, settings.plain),
    "slow headers": (of_clients.slow_heads, settings.plain),
    "half-sent heads": (of_clients.half_sent_heads, settings.with_few_files),
    "slow bodies": (of_clients.slow_bodies, settings.plain),
    "clients that never read": (of_clients.never_reading, settings.plain),
}


def main() -> None:
    parser = parser_of(__doc__)
    add_workers(parser, 2)
    parser.add_argument("--connections", type=int, default=8, help="connections of the good load (default 8)")
    parser.add_argument("--idle", type=int, default=10_000, help="idle connections (default 10000)")
    parser.add_argument("--only", help="run only faults with this in their name")
    options = parser.parse_args()
    chosen = [name for name in FAULTS if not options.only or options.only.lower() in name.lower()]
    print(f"{options.workers} workers; {options.connections} connections that wait {PAUSE_S * 1e3:g} ms each time")
    TABLE.print_heading()
    for name in tqdm(chosen, leave=False, disable=None):
        measure(name, options)


def measure(name: str, options: argparse.Namespace) -> None:
    """Runs one fault and prints its line of the table."""
    fault, setting = FAULTS[name]
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as scratch:
        try:
            with setting(options, Path(scratch)) as (server, folder):
                beside(name, fault, server, folder, options)
        except LeftOut as why:
            TABLE.print_row(name, note=f"left out: {why}")


def beside(name: str, fault: Fault, server: OurServer, folder: Path, options: argparse.Namespace) -> None:
    """Runs the fault beside good load; prints its line of the table, and the texts of some bad responses."""
    time.sleep(2)  # until every worker has loaded the policy
    options.artifact = open_artifact(folder)
    versions = sorted(card.parent for card in folder.parent.glob("[0-9]*/model_card.yaml"))
    with GoodLoad(server.port, versions, options.connections, PAUSE_S) as load:
        quiet = time.monotonic() + 0.5
        time.sleep(QUIET_S)
        began = time.monotonic()
        what = fault(server, options)
        ended = time.monotonic()
        time.sleep(SETTLE_S)
    counts = [load.count(outcome, began) for outcome in OUTCOMES]
    TABLE.print_row(name, *counts, load.p99_ms(quiet, began), load.p99_ms(began, ended), note=f"   {what}")
    texts = {each.text for each in load.asked if each.outcome in {"failed", "dropped", "wrong"} and each.text}
    for text in sorted(texts)[:4]:
        print(f"    {text}", flush=True)


if __name__ == "__main__":
    main()
