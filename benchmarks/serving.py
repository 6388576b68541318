"""python -m benchmarks.serving [--peers DIR --seconds 3 --rounds 3 --workers 2 --only mlp]: our server beside others.

In each round every system in turn is started, its responses are checked, it is loaded by wrk, and stopped; rounds are
repeated so that a noisy minute affects all systems. Prints medians for an MLP of 16-64-64-3 and a network with a bird's
eye view of 15×96×96, at 1, 16 and 64 connections and with 256 observations per request; of an LSTM of 256 ours alone,
as no other keeps a policy's memory. An empty server in C and the bare forward in this process are measured too. Without
--peers, only these and our server are.

--running PORT measures a carla-serve that was started before, with whatever policy it serves; --running
unix:/run/policy.sock one on a Unix socket, by a load of our own in Python, as wrk knows none: --own-load measures a
port by the same, to compare the two. --json writes the medians, --baseline compares them with those of an earlier run.

Our server runs as `carla-serve --model FOLDER --workers N`, otherwise with default settings.
"""

from __future__ import annotations

import argparse
import math
import os
import sys
import tempfile
from pathlib import Path

import torch
from tqdm import tqdm

from benchmarks.policies.serving_policies import KINDS, MAX_ROWS, Asked, asked
from benchmarks.speed.baseline import Figures, add_baseline, conclude
from benchmarks.speed.forwards import ROWS, forwards
from benchmarks.speed.own_load import own_load
from benchmarks.speed.peers import peers
from benchmarks.speed.ratios import Ratio, print_ratios, ratios
from benchmarks.speed.rows import Row, figures_of, print_forwards, print_table
from benchmarks.speed.systems import Floor, Ours, System, already_running, doors_of
from benchmarks.speed.wrk import Load, load, write_requests
from benchmarks.support.command_line import add_workers, parser_of
from benchmarks.support.connection import Address
from benchmarks.support.processes import pss_mb
from carla_mlflow.client.unix_address import is_unix, socket_path

LOADS = {"c1": (1, 1), "c16": (16, 1), "c64": (64, 1), "b256": (2, MAX_ROWS)}
WARM_UP_S = 1
SLOW_S = 8
"""The least length of a load of 256 images per request: each takes a large part of a second."""


def address(text: str) -> Address:
    """An argparse type: a port, or the address of a Unix socket."""
    return socket_path(text) if is_unix(text) else int(text)


def main() -> int:
    parser = parser_of(__doc__)
    parser.add_argument("--peers", type=Path, help="folder with other servers, and a run.py that starts them")
    parser.add_argument(
        "--peer", action="append", default=[], help="a system in that run.py (default: the best settings)"
    )
    parser.add_argument("--seconds", type=int, default=3, help="length of each load (default 3)")
    parser.add_argument("--rounds", type=int, default=3)
    cores = os.cpu_count() or 1
    add_workers(parser, cores, note=", the cores")
    parser.add_argument("--only", choices=sorted(KINDS))
    parser.add_argument(
        "--running", type=address, metavar="PORT|unix:PATH", help="measure the server that runs there, and no other"
    )
    parser.add_argument("--own-load", action="store_true", help="measure --running without wrk, as for a Unix socket")
    add_baseline(parser)
    options = parser.parse_args()
    if options.own_load and not options.running:
        parser.error("--own-load is for a server that runs: add --running PORT")
    torch.set_num_threads(1)
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    found: list[Ratio] = []
    figures: Figures = {}
    with tempfile.TemporaryDirectory() as scratch:
        if options.running:
            rows = rounds(options, already_running(options.running), Path(scratch))
            print_table(f"{'port ' if isinstance(options.running, int) else 'unix:'}{options.running}", rows)
            return conclude(figures_of("running", rows), options)
        for kind in [options.only] if options.only else KINDS:
            found += measure(options, kind, Path(scratch), figures)
    print_ratios(found)
    return conclude(figures, options)


def rounds(options: argparse.Namespace, systems: list[System], folder: Path) -> dict[str, Row]:
    """Measures the systems in turn, as often as asked for."""
    rows: dict[str, Row] = {system.name: Row() for system in systems}
    loaded = own_load if options.own_load or isinstance(options.running, Path) else load
    for _ in tqdm(range(options.rounds), disable=None):
        for system in systems:
            if not rows[system.name].problem:
                one_round(system, rows[system.name], options.seconds, folder, loaded)
    return rows


def measure(options: argparse.Namespace, kind: str, folder: Path, figures: Figures) -> list[Ratio]:
    """Measures and prints one policy's table; adds to the figures, and returns its ratios."""
    policy = asked(kind, folder)
    systems = systems_of(options, policy, folder)
    rows: dict[str, Row] = {system.name: Row() for system in systems}
    threads = sorted({1, os.cpu_count() or 1})
    rates: dict[int, dict[int, list[float]]] = {count: {rows: [] for rows in ROWS} for count in threads}
    with tqdm(total=options.rounds * len(systems), desc=kind, disable=None) as bar:
        for number in range(options.rounds):
            for system in systems if number % 2 == 0 else reversed(systems):
                if not rows[system.name].problem:
                    one_round(system, rows[system.name], options.seconds, folder, load)
                    tell(bar, system, rows[system.name])
                bar.update()
            for count in threads:
                for size, rate in forwards(policy, count, options.seconds).items():
                    rates[count][size].append(rate)
    print_table(f"{kind} ({policy.engine.backend})", rows)
    print_forwards(kind, rates)
    figures |= figures_of(kind, rows)
    return ratios(kind, rows, rates)


def systems_of(options: argparse.Namespace, policy: Asked, folder: Path) -> list[System]:
    """The systems to measure: the empty C server, ours on each endpoint, and the peers."""
    found: list[System] = [Ours(policy, door, options.workers) for door in doors_of(policy.kind)]
    if policy.kind != "image":
        try:
            found.insert(0, Floor(policy, folder))
        except RuntimeError as error:
            print(error, file=sys.stderr)
    with_peers = options.peers and policy.engine.card.memory is None
    return found + (peers(options.peers, policy.kind, options.peer) if with_peers else [])


def one_round(system: System, row: Row, seconds: int, folder: Path, load: Load) -> None:
    """Starts a system, checks it, loads it by `load` and stops it; the row gets the figures, or the problem."""
    try:
        with system.running() as running:
            problem = system.problem(running)
            if problem:
                row.problem = problem
                return
            row.started_s.append(running.started_s)
            files = {rows: folder / f"{rows}.requests" for rows in {rows for _, rows in LOADS.values()}}
            for rows, path in files.items():
                write_requests(path, system.requests(rows))
            load(running.address, files[1], 16, WARM_UP_S)
            for name, (connections, rows) in LOADS.items():
                slow = system.kind == "image" and rows > 1
                length = max(seconds, SLOW_S) if slow else seconds
                row.loads[name].append(load(running.address, files[rows], connections, length))
            if running.pid is not None:
                sizes = pss_mb(running.pid)
                row.whole_mb.append(sum(sizes))
                row.heaviest_mb.append(max(sizes, default=math.nan))
    except RuntimeError as error:
        row.problem = str(error)


def tell(bar: tqdm, system: System, row: Row) -> None:
    """Prints one line about a system's finished round."""
    if row.problem:
        bar.write(f"{system.kind} {system.name}: {row.problem}", file=sys.stderr)
        return
    last = {name: found[-1] for name, found in row.loads.items()}
    cells = ", ".join(
        f"{name} {each.p50_ms:.2f}/{each.p99_ms:.2f} ms {each.per_second:,.0f}/s" for name, each in last.items()
    )
    bar.write(f"{system.kind} {system.name}: {cells}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
