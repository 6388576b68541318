"""python -m benchmarks.recording [--rounds 10 --seconds 3 --workers 2 --hz 100]: what recording costs the requests.

Two servers of the same policy run, one with --record, and wrk loads them in turn, at 1, 16 and 64 connections, or with
--hz as many vehicles; the one that is not measured is stopped meanwhile (SIGSTOP). Prints the median of the rounds'
ratios, with against without, of requests/s and of the p99, and their quartiles, and the CPU time of the server and of
the writer for each request, which says more where others use the machine; then the rows in the files, how many were
lost and why. Every answer has to be in the files or counted as lost.
"""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import psutil
from tqdm import tqdm

from benchmarks.policies.serving_policies import KINDS, asked
from benchmarks.speed.paced_load import add_hz, load_at
from benchmarks.speed.wrk import Found, Load, load, write_requests
from benchmarks.support.command_line import add_workers, parser_of
from benchmarks.support.encoding import predict_request
from benchmarks.support.our_server import OurServer
from benchmarks.support.percentiles import median
from benchmarks.support.processes import tree
from benchmarks.support.table import Column, Table
from serve.record.files import open_recordings

CONNECTIONS = (1, 16, 64)
WITHOUT, WITH = "without", "with"
TABLE = Table(
    "connections",
    14,
    (
        Column("without /s", 12, ",.0f"),
        Column("with /s", 12, ",.0f"),
        Column("rate", 8, "+.1%"),
        Column("quartiles", 18),
        Column("p99 ms", 9, ".2f"),
        Column("with", 8, ".2f"),
        Column("p99", 8, "+.1%"),
        Column("quartiles", 18),
        Column("CPU µs", 9, ".1f"),
        Column("with", 7, ".1f"),
        Column("+ writer", 10, ".1f"),
    ),
)


class Loaded(NamedTuple):
    """One load: what the load found, and the CPU seconds of the server without the writer, and of the writer."""

    found: Found
    server_s: float
    writer_s: float

    @property
    def us(self) -> float:
        """CPU time of the server for each request, microseconds."""
        return self.server_s / self.found.requests * 1e6


Loads = dict[str, dict[int, list[Loaded]]]


def main() -> int:
    parser = parser_of(__doc__)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--seconds", type=int, default=3, help="length of each load (default 3)")
    parser.add_argument("--kind", choices=sorted(KINDS), default="mlp")
    parser.add_argument("--images", choices=("keep", "hash", "none"), default="none")
    parser.add_argument("--folder", type=Path, help="where to record (default: a temporary folder)")
    add_hz(parser)
    add_workers(parser, os.cpu_count() or 1, note=", the cores")
    options = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    with tempfile.TemporaryDirectory() as scratch:
        policy = asked(options.kind, Path(scratch))
        encoded = [predict_request(batch) for batch in policy.batches[1]]
        requests = write_requests(Path(scratch) / "requests", encoded)
        records = options.folder or Path(scratch) / "records"
        flags = ["--model", str(policy.folder), "--workers", str(options.workers)]
        recording = [*flags, "--record", str(records), "--record-images", options.images]
        with OurServer(*flags) as plain, OurServer(*recording) as recorded:
            found = measure(
                {WITHOUT: plain, WITH: recorded}, requests, options.rounds, options.seconds, load_at(options.hz)
            )
        print_table(found)
        return conclude(records, [each for loads in found[WITH].values() for each in loads])


def measure(servers: dict[str, OurServer], requests: Path, rounds: int, seconds: int, load_by: Load) -> Loads:
    """Loads the servers in turn."""
    found: Loads = {name: {count: [] for count in CONNECTIONS} for name in servers}
    for server in servers.values():
        load(server.port, requests, 16, 1)
        suspend(server)
    try:
        with tqdm(total=rounds * len(CONNECTIONS), disable=None) as bar:
            for number in range(rounds):
                for count in CONNECTIONS:
                    for name in (WITHOUT, WITH) if number % 2 == 0 else (WITH, WITHOUT):
                        with running(servers[name]):
                            found[name][count].append(loaded(servers[name], requests, count, seconds, load_by))
                    bar.update()
    finally:
        for server in servers.values():
            resume(server)  # one that is suspended can't be stopped
    return found


def loaded(server: OurServer, requests: Path, connections: int, seconds: int, load_by: Load) -> Loaded:
    """Loads one server."""
    server_s, writer_s = cpu_s(server)
    found = load_by(server.port, requests, connections, seconds)
    after, writer_after = cpu_s(server)
    return Loaded(found, after - server_s, writer_after - writer_s)


@contextlib.contextmanager
def running(server: OurServer) -> Iterator[None]:
    """Lets a suspended server run."""
    resume(server)
    yield
    suspend(server)


def suspend(server: OurServer) -> None:
    for process in tree(server.process.pid):
        with contextlib.suppress(psutil.NoSuchProcess):  # a shadow that just died
            process.suspend()


def resume(server: OurServer) -> None:
    for process in tree(server.process.pid):
        with contextlib.suppress(psutil.NoSuchProcess):
            process.resume()


def cpu_s(server: OurServer) -> tuple[float, float]:
    """CPU seconds that a server's processes have taken: all but the writer, and the writer."""
    server_s = writer_s = 0.0
    for process in tree(server.process.pid):
        with contextlib.suppress(psutil.Error):
            used = process.cpu_times()
            if "serve.record.writer_process" in process.cmdline():
                writer_s += used.user + used.system
            else:
                server_s += used.user + used.system
    return server_s, writer_s


def print_table(found: Loads) -> None:
    """Prints a row for each number of connections."""
    TABLE.print_heading()
    for count in CONNECTIONS:
        pairs = list(zip(found[WITHOUT][count], found[WITH][count], strict=True))
        rates = [after.found.per_second / before.found.per_second - 1 for before, after in pairs]
        tails = [after.found.p99_ms / before.found.p99_ms - 1 for before, after in pairs]
        TABLE.print_row(
            str(count),
            median([before.found.per_second for before, _ in pairs]),
            median([after.found.per_second for _, after in pairs]),
            median(rates),
            quartiles(rates),
            median([before.found.p99_ms for before, _ in pairs]),
            median([after.found.p99_ms for _, after in pairs]),
            median(tails),
            quartiles(tails),
            median([before.us for before, _ in pairs]),
            median([after.us for _, after in pairs]),
            median([after.writer_s / after.found.requests * 1e6 for _, after in pairs]),
        )


def quartiles(values: list[float]) -> str:
    """The first and the third, as percent."""
    ordered = sorted(values)
    low, high = (ordered[min(len(ordered) - 1, int(len(ordered) * share))] for share in (0.25, 0.75))
    return f"{low:+.1%} … {high:+.1%}"


def conclude(records: Path, loads: list[Loaded]) -> int:
    """Prints what was recorded; returns 1 if an answer is neither in the files nor counted as lost."""
    recorded, answers = open_recordings(records), sum(each.found.requests for each in loads)
    lost = {reason: rows for head in recorded.heads.values() for reason, rows in head.lost.items()}
    size, rows = sum(file.path.stat().st_size for file in recorded.files), recorded.rows
    print(f"\n{rows:,} rows in {len(recorded.files)} files, {size / max(1, rows):.0f} bytes a row")
    print(f"damaged: {recorded.verify() or 'none'}; lost: {recorded.lost:,} rows {lost or ''}")
    # A load ends with requests under way, which are answered and recorded, too, as are those of the warm-up.
    missing = answers - rows - recorded.lost
    print(f"{answers:,} answers that the load counted" + (f": {missing:,} ARE MISSING" if missing > 0 else ""))
    return int(missing > 0)


if __name__ == "__main__":
    sys.exit(main())
