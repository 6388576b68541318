"""python -m benchmarks.shadow [--rounds 10 --seconds 3 --hz 100]: what a shadow costs the requests, good or bad.

Servers of the same policy run: one without a shadow, one that records (which has the same rings), and one with each
kind of shadow: another version; one that spins in its first forward; one that writes a gigabyte in each forward; one
whose process is stopped (SIGSTOP); and one that is killed every second. wrk loads them in turn, or with --hz as many
vehicles as there are connections; those that are not measured are stopped meanwhile. Prints the median of the rounds'
ratios to the server without one, of requests/s and of the p99.
"""

from __future__ import annotations

import contextlib
import random
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psutil
from tqdm import tqdm

from benchmarks.policies.bad_shadows import AT, eating, spinning
from benchmarks.policies.two_policies import small_policy, write
from benchmarks.recording import CONNECTIONS, quartiles, resume, suspend
from benchmarks.speed.paced_load import add_hz, load_at
from benchmarks.speed.wrk import Found, Load, load, write_requests
from benchmarks.support.command_line import add_workers, parser_of
from benchmarks.support.encoding import predict_request
from benchmarks.support.our_server import OurServer
from benchmarks.support.percentiles import median
from benchmarks.support.processes import tree
from benchmarks.support.table import Column, Table

WITHOUT, RECORDS, STOPPED, KILLED = "without", "records", "stopped", "killed"
KILL_S = 1.0
TABLE = Table(
    "shadow, connections",
    24,
    (
        Column("requests/s", 12, ",.0f"),
        Column("rate", 8, "+.1%"),
        Column("quartiles", 18),
        Column("p99 ms", 9, ".2f"),
        Column("p99", 8, "+.1%"),
        Column("quartiles", 18),
    ),
)

Measured = dict[str, dict[int, list[Found]]]
"""Kind of shadow → connections → what each round found."""


def main() -> int:
    parser = parser_of(__doc__)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--seconds", type=int, default=3, help="length of each load (default 3)")
    parser.add_argument("--kinds", default="", help="only these: good,spins,eats,stopped,killed,records")
    add_hz(parser)
    add_workers(parser, 2)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch, contextlib.ExitStack() as stack:
        folder = Path(scratch)
        champion = small_policy("1.0.0", 1)
        flags = ["--model", str(write(champion, folder)), "--workers", str(options.workers)]
        good = str(write(small_policy("1.1.0", 2), folder))
        kinds = {
            WITHOUT: [],
            RECORDS: ["--record", str(folder / "records")],
            "good": ["--shadow", good],
            "spins": ["--shadow", str(write(spinning(champion, "1.2.0"), folder))],
            "eats": ["--shadow", str(write(eating(champion, "1.3.0", 1000), folder))],
            STOPPED: ["--shadow", good],
            KILLED: ["--shadow", good],
        }
        wanted = {WITHOUT, *options.kinds.split(",")} if options.kinds else set(kinds)
        rng, specs = np.random.default_rng(0), champion.card.observation_spec
        batches = [{spec.name: spec.sample(rng, 1) for spec in specs} for _ in range(64)]
        for batch in batches:
            batch["state"][:, 0] = AT
        requests = write_requests(folder / "requests", [predict_request(batch) for batch in batches])
        servers = {}
        for kind in [kind for kind in kinds if kind in wanted]:
            servers[kind] = stack.enter_context(OurServer(*flags, *kinds[kind]))
            load(servers[kind].port, requests, 16, 5)  # until then a shadow has its policy, and sees AT
            suspend(servers[kind])
        try:
            print_table(measure(servers, requests, options.rounds, options.seconds, load_at(options.hz)))
        finally:
            for server in servers.values():
                resume(server)  # one that is suspended can't be stopped
    return 0


def measure(servers: dict[str, OurServer], requests: Path, rounds: int, seconds: int, loaded: Load) -> Measured:
    """Loads the servers in turn, in another order each round."""
    found: Measured = {kind: {count: [] for count in CONNECTIONS} for kind in servers}
    with tqdm(total=rounds * len(CONNECTIONS) * len(servers), disable=None) as bar:
        for number in range(rounds):
            for count in CONNECTIONS:
                for kind in random.Random(100 * number + count).sample([*servers], len(servers)):
                    with running(servers[kind], kind):
                        found[kind][count].append(loaded(servers[kind].port, requests, count, seconds))
                    bar.update()
    return found


@contextlib.contextmanager
def running(server: OurServer, kind: str) -> Iterator[None]:
    """Lets a suspended server run; its shadow as the kind says."""
    resume(server)
    done = threading.Event()
    killer = threading.Thread(target=_kill, args=(server, done))
    if kind == STOPPED:
        for shadow in shadows(server):
            shadow.suspend()
    if kind == KILLED:
        killer.start()
    yield
    done.set()
    if kind == KILLED:
        killer.join()
    suspend(server)


def _kill(server: OurServer, done: threading.Event) -> None:
    while not done.wait(KILL_S):
        for shadow in shadows(server):
            with contextlib.suppress(psutil.Error):
                shadow.kill()


def shadows(server: OurServer) -> list[psutil.Process]:
    """The shadow's process, if it runs."""
    found = []
    for process in tree(server.process.pid):
        with contextlib.suppress(psutil.Error):
            found += [process] if "serve.shadow.start" in process.cmdline() else []
    return found


def print_table(found: Measured) -> None:
    """Prints a row for each kind and number of connections."""
    TABLE.print_heading()
    for kind, by_count in found.items():
        for count, loads in by_count.items():
            pairs = list(zip(found[WITHOUT][count], loads, strict=True))
            rates = [after.per_second / before.per_second - 1 for before, after in pairs]
            tails = [after.p99_ms / before.p99_ms - 1 for before, after in pairs]
            rate, tail = median([each.per_second for each in loads]), median([each.p99_ms for each in loads])
            ratios = (rate, median(rates), quartiles(rates), tail, median(tails), quartiles(tails))
            TABLE.print_row(f"{kind}, {count}", *ratios)


if __name__ == "__main__":
    sys.exit(main())
