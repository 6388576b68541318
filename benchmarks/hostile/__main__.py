"""python -m benchmarks.hostile [--worker-class loop --only ROW --quick --elsewhere]: how a server handles abuse.

Runs each row of abuse against its own server (with --quick: all against one), over real sockets: invalid JSON, tensors
with false sizes, ambiguous heads and bodies, gzip bombs, slow clients and clients that never read, path traversal,
mutated requests. Every response is checked: its status, that an error has our format and leaks neither internals nor
what was sent, and that an action is right. Beside it, four clients send good requests and compare the actions bit for
bit. Prints for each row how many requests were tried and mishandled, the good load's failures and p99 (before, beside),
and how far the worker's memory rose. Exits with 1 when anything was mishandled or a good request failed.
"""

from __future__ import annotations

import math
import os
import sys
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass

import psutil
from tqdm import tqdm

from benchmarks.hostile.rows import ROWS, Attack
from benchmarks.hostile.saying import Tally
from benchmarks.hostile.slow import TIMEOUT_S
from benchmarks.hostile.values import Bodies
from benchmarks.support.command_line import EXAMPLE, parser_of
from benchmarks.support.good_load import GoodLoad
from benchmarks.support.our_server import OurServer
from benchmarks.support.percentiles import median
from benchmarks.support.table import Column, Table
from carla_mlflow import open_artifact

MIN_S = 4.0
"""A row is repeated for this long, as the good load's p99 would otherwise rest on too few requests."""
MIN_PRIORITY = 19
"""The attack's nice value, the lowest priority."""
COLUMNS = (
    Column("tried", 7, ","),
    Column("wrong", 6),
    Column("good: asked", 14, ","),
    Column("failed", 7),
    Column("p99 ms before", 16, ".1f"),
    Column("beside", 7, ".1f"),
    Column("MB", 6, "+.0f"),
)
TABLE = Table("row", 50, COLUMNS)
QUIET_S, GOOD_CLIENTS, GOOD_PAUSE_S = 3.0, 4, 0.01
OWN_FLAGS = ("slow", "overload")
"""Rows for which a server has flags of its own."""


@dataclass(frozen=True)
class Attacked:
    """A row that was run.

    Attributes:
        name: of ROWS.
        tally: its results.
        began: when the good load was first looked at, by `time.monotonic`.
        started: when the attack began.
        ended: when it ended.
        risen_mb: how far the worker's memory rose above that at `started`.
    """

    name: str
    tally: Tally
    began: float
    started: float
    ended: float
    risen_mb: float


def main() -> int:
    parser = parser_of(__doc__)
    parser.add_argument("--worker-class", choices=("loop", "gthread"), default="loop")
    parser.add_argument("--only", choices=sorted(ROWS), action="append")
    parser.add_argument(
        "--mutations", type=int, default=20_000, help="mutated bodies; a quarter as many mutated heads (default 20000)"
    )
    quick = "fewer values, no slow clients, each row once, one server and one good load for all rows"
    parser.add_argument("--quick", action="store_true", help=quick)
    elsewhere = "attack another server than the good load's, to measure what the attack costs by taking cores alone"
    parser.add_argument("--elsewhere", action="store_true", help=elsewhere)
    options = parser.parse_args()
    wanted = options.only or [name for name in ROWS if name != "slow" or not options.quick]
    good = Bodies(open_artifact(EXAMPLE))
    TABLE.print_heading("   answers")
    failed, figures = False, list[tuple[str, float, float]]()
    for names in filter(None, groups(wanted, options)):
        for name, wrong, *p99s in against_one_server(names, options, good):
            failed |= wrong
            figures.append((name, *p99s))
    tell_doubled(figures)
    return int(failed)


def groups(wanted: list[str], options) -> list[list[str]]:
    """The rows that share a server; of those that are not tried, says so."""
    if options.worker_class == "gthread":
        for name in (name for name in wanted if name in OWN_FLAGS):
            TABLE.print_row(ROWS[name][0], note="  not tried: gthread has no answer to it (docs/adr/0011)")
        wanted = [name for name in wanted if name not in OWN_FLAGS]
    if not options.quick:
        return [[name] for name in wanted]
    alone = [name for name in wanted if name in OWN_FLAGS]
    return [[name for name in wanted if name not in OWN_FLAGS], *([name] for name in alone)]


def tell_doubled(figures: list[tuple[str, float, float]]) -> None:
    """Prints the rows beside which the good load's p99 was more than twice the quiet one.

    The quiet p99 is the median over all rows, as one row's three quiet seconds hold only a dozen requests above it.
    """
    quiet = median([before for _, before, _ in figures])
    doubled = [f"{name} ({beside:.1f})" for name, _, beside in figures if beside > 2 * quiet]
    print(f"p99 of good requests before the rows, median: {quiet:.1f} ms; more than twice that beside: ", end="")
    print(", ".join(doubled) or "none")


def against_one_server(names: list[str], options, good: Bodies) -> list[tuple[str, bool, float, float]]:
    """Runs rows one after the other and prints their lines.

    Returns:
        For each its name, whether anything failed, and the good p99 in milliseconds before and beside it.
    """
    seconds = str(TIMEOUT_S if names == ["slow"] else 10)
    flags = ["--model", str(EXAMPLE), "--worker-class", options.worker_class]
    flags += ["--allowed-hosts", "*", "--header-timeout-s", seconds, "--body-timeout-s", seconds]
    flags += ["--max-inflight", "16"] if names == ["overload"] else []
    with ExitStack() as stack:
        server = stack.enter_context(OurServer(*flags))
        attacked = stack.enter_context(OurServer(*flags)) if options.elsewhere else server
        with GoodLoad(server.port, [EXAMPLE], GOOD_CLIENTS, GOOD_PAUSE_S) as load:
            rows = [one_row(name, options, good, attacked) for name in names]
    ends = [row.began for row in rows[1:]] + [math.inf]
    return [conclude(row, load, until) for row, until in zip(rows, ends, strict=True)]


def one_row(name: str, options, good: Bodies, attacked: OurServer) -> Attacked:
    """Attacks a server."""
    tally = Tally()
    with tqdm(desc=name, leave=False, disable=None) as bar:
        [worker] = attacked.workers()
        began = time.monotonic()
        time.sleep(0.0 if options.quick else QUIET_S)
        before, started = worker.memory_info().rss, time.monotonic()
        forget_peak(worker)
        attack_by = ROWS[name][1]
        attack = Attack(attacked.port, good, options.worker_class, options.mutations, options.quick, tally, bar)
        from_elsewhere(lambda: attack_by(attack))
        while not options.quick and time.monotonic() < started + MIN_S:
            from_elsewhere(lambda: attack_by(attack))
        ended = time.monotonic()
        same = [each.pid for each in attacked.workers()] == [worker.pid]
        risen_mb = (peak(worker) - before) / 1e6 if same else math.nan
    if not same:
        tally.problems.append("the worker died")
    return Attacked(name, tally, began, started, ended, risen_mb)


def conclude(row: Attacked, load: GoodLoad, until: float) -> tuple[str, bool, float, float]:
    """Prints a row's line; `until` is when the next row began. Returns what `against_one_server` does of it."""
    tally, name = row.tally, row.name
    asked = [each for each in load.asked if row.began <= each.sent < until]
    bad = [each for each in asked if each.outcome not in ("right", *(["failed"] if name == "overload" else []))]
    quiet, beside = load.p99_ms(row.began, row.started), load.p99_ms(row.started, row.ended)
    counts = " ".join(f"{status or 'ended'}:{count}" for status, count in sorted(tally.statuses.items()))
    found = (tally.tried, len(tally.problems), len(asked), len(bad), quiet, beside, row.risen_mb)
    TABLE.print_row(ROWS[name][0], *found, note=f"   {counts}")
    for text in [*tally.problems[:8], *{each.text or each.outcome for each in bad[:4]}]:
        print(f"    {text[:300]}")
    sys.stdout.flush()
    return name, bool(tally.problems or bad), quiet, beside


def from_elsewhere(attack: Callable[[], None]) -> None:
    """Runs an attack at low priority, its threads too, as a real attacker would not use the server's own cores."""
    problem: list[BaseException] = []

    def run() -> None:
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), MIN_PRIORITY)
        try:
            attack()
        except BaseException as error:
            problem.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    if problem:
        raise problem[0]


def forget_peak(process: psutil.Process) -> None:
    """Resets the process's peak memory to its present memory."""
    with open(f"/proc/{process.pid}/clear_refs", "w") as file:
        file.write("5")


def peak(process: psutil.Process) -> int:
    """The most bytes resident since `forget_peak`."""
    with open(f"/proc/{process.pid}/status") as file:
        return 1024 * next(int(line.split()[1]) for line in file if line.startswith("VmHWM"))


if __name__ == "__main__":
    sys.exit(main())
