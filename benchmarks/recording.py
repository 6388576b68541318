"""python -m benchmarks.recording [--rounds 10 --seconds 3 --workers 2]: what recording costs the requests.

Two servers of the same policy run, one with --record, and wrk loads them in turn, at 1, 16 and 64 connections; the one
that is not measured is stopped meanwhile (SIGSTOP). Prints the median of the rounds' ratios, with against without, of
requests/s and of the p99, and their quartiles; then the rows in the files, how many were lost and why, how many
bytes a row takes, and how much of a core the writer took. Every answer has to be in the files or counted as lost.
"""

from __future__ import annotations

import contextlib
import math
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psutil
from tqdm import tqdm

from benchmarks.policies.serving_policies import KINDS, asked
from benchmarks.speed.wrk import Found, load, write_requests
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
    ),
)


def main() -> int:
    parser = parser_of(__doc__)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--seconds", type=int, default=3, help="length of each load (default 3)")
    parser.add_argument("--kind", choices=sorted(KINDS), default="mlp")
    parser.add_argument("--images", choices=("keep", "hash", "none"), default="none")
    parser.add_argument("--folder", type=Path, help="where to record (default: a temporary folder)")
    add_workers(parser, os.cpu_count() or 1, note=", the cores")
    options = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    with tempfile.TemporaryDirectory() as scratch:
        policy = asked(options.kind, Path(scratch))
        requests = write_requests(
            Path(scratch) / "requests",
            [predict_request(batch) for batch in policy.batches[1]],
        )
        records = options.folder or Path(scratch) / "records"
        flags = ["--model", str(policy.folder), "--workers", str(options.workers)]
        recording = [*flags, "--record", str(records), "--record-images", options.images]
        with OurServer(*flags) as plain, OurServer(*recording) as recorded:
            servers = {WITHOUT: plain, WITH: recorded}
            found, cpu_s, wall_s = measure(servers, requests, options.rounds, options.seconds)
        answers = sum(each.requests for loads in found[WITH].values() for each in loads)
        print_table(found)
        return conclude(records, answers, cpu_s / wall_s)


def measure(
    servers: dict[str, OurServer], requests: Path, rounds: int, seconds: int
) -> tuple[dict[str, dict[int, list[Found]]], float, float]:
    """Loads the servers in turn; returns what wrk found, and the writer's CPU seconds in how many seconds of load."""
    found: dict[str, dict[int, list[Found]]] = {name: {count: [] for count in CONNECTIONS} for name in servers}
    for server in servers.values():
        load(server.port, requests, 16, 1)
        suspend(server)
    cpu_s = wall_s = 0.0
    with tqdm(total=rounds * len(CONNECTIONS), disable=None) as bar:
        for number in range(rounds):
            for count in CONNECTIONS:
                for name in (WITHOUT, WITH) if number % 2 == 0 else (WITH, WITHOUT):
                    with running(servers[name]):
                        before = writer_s(servers[name])
                        found[name][count].append(load(servers[name].port, requests, count, seconds))
                        cpu_s += writer_s(servers[name]) - before
                        wall_s += seconds * (name == WITH)
                bar.update()
    for server in servers.values():
        resume(server)
    return found, cpu_s, wall_s


@contextlib.contextmanager
def running(server: OurServer) -> Iterator[None]:
    """Lets a suspended server run."""
    resume(server)
    yield
    suspend(server)


def suspend(server: OurServer) -> None:
    for process in tree(server.process.pid):
        process.suspend()


def resume(server: OurServer) -> None:
    for process in tree(server.process.pid):
        process.resume()


def writer_s(server: OurServer) -> float:
    """CPU seconds that the recording's writer has taken; 0 where there is none."""
    for process in tree(server.process.pid):
        with contextlib.suppress(psutil.Error):
            if "serve.record.writer" in process.cmdline():
                used = process.cpu_times()
                return float(used.user + used.system)
    return 0.0


def print_table(found: dict[str, dict[int, list[Found]]]) -> None:
    """Prints a row for each number of connections."""
    TABLE.print_heading()
    for count in CONNECTIONS:
        pairs = list(zip(found[WITHOUT][count], found[WITH][count], strict=True))
        rates = [after.per_second / before.per_second - 1 for before, after in pairs]
        tails = [after.p99_ms / before.p99_ms - 1 for before, after in pairs]
        TABLE.print_row(
            str(count),
            median([before.per_second for before, _ in pairs]),
            median([after.per_second for _, after in pairs]),
            median(rates),
            quartiles(rates),
            median([before.p99_ms for before, _ in pairs]),
            median([after.p99_ms for _, after in pairs]),
            median(tails),
            quartiles(tails),
        )


def quartiles(values: list[float]) -> str:
    """The first and the third, as percent."""
    ordered = sorted(values)
    low, high = (ordered[min(len(ordered) - 1, int(len(ordered) * share))] for share in (0.25, 0.75))
    return f"{low:+.1%} … {high:+.1%}"


def conclude(records: Path, answers: int, share: float) -> int:
    """Prints what was recorded; returns 1 if an answer is neither in the files nor counted as lost."""
    found = open_recordings(records)
    lost = {reason: rows for head in found.heads.values() for reason, rows in head.lost.items()}
    size = sum(file.path.stat().st_size for file in found.files)
    rows = found.rows
    print(
        f"\n{rows:,} rows in {len(found.files)} files, {size / max(1, rows):.0f} bytes a row, damaged: {found.verify()}"
    )
    print(f"{found.lost:,} rows lost {lost or ''}; the writer took {share:.1%} of a core")
    # wrk ends with requests under way, which are answered and recorded too; the warm-up's are in neither.
    missing = answers - rows - found.lost
    print(f"{answers:,} answers that wrk counted" + (f": {missing:,} ARE MISSING" if missing > 0 else ""))
    return int(missing > 0 or not math.isfinite(share))


if __name__ == "__main__":
    sys.exit(main())
