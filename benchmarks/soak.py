"""python -m benchmarks.soak [ARTIFACT --requests 1000000 --workers 1]: memory and counters over many mixed requests.

Several client processes send to one server: /predict with one and with eight observations, /invocations, invalid
requests of several kinds, and GETs of /readyz, /healthz, /metadata and /metrics. Prints every worker's resident memory
as it goes and its slope, and compares /metrics with what the clients counted.
"""

from __future__ import annotations

import multiprocessing
import time
from collections import Counter
from multiprocessing.sharedctypes import Synchronized

import numpy as np
from tqdm import tqdm

from benchmarks.resources.soak_requests import Asker, Kind, counted, kinds, route_of
from benchmarks.support.command_line import add_artifact, add_workers, parser_of
from benchmarks.support.our_server import OurServer
from benchmarks.support.table import Column, Table

LOOKS = 20
COUNTS = Table("", 28, (Column("", 5), Column("", 12, ",")))
"""Kind of request, status, how many."""


def main() -> None:
    parser = parser_of(__doc__)
    add_artifact(parser)
    parser.add_argument("--requests", type=int, default=1_000_000)
    add_workers(parser, 1)
    parser.add_argument("--clients", type=int, default=2, help="client processes (default 2)")
    parser.add_argument("--connections", type=int, default=8, help="connections of each client (default 8)")
    options = parser.parse_args()
    with OurServer("--model", str(options.artifact), "--workers", str(options.workers)) as server:
        time.sleep(2)  # until every worker has loaded the policy
        requests = kinds(options.artifact, server.port)
        before = counted(server.port)
        share = options.requests // options.clients
        with multiprocessing.get_context("spawn").Pool(
            options.clients, _share_progress, [progress := multiprocessing.get_context("spawn").Value("q", 0)]
        ) as pool:
            plans = [(server.port, requests, share, options.connections, seed) for seed in range(options.clients)]
            asked = pool.starmap_async(ask_many, plans)
            sizes = watch(server, progress, share * options.clients, asked.ready)
            seen = sum((each for each in asked.get()), Counter())
        time.sleep(1)
        after = counted(server.port)
        memory(sizes)
        compare(seen, before, after, requests)


_progress: Synchronized[int] | None = None


def _share_progress(value: Synchronized[int]) -> None:
    global _progress
    _progress = value


def ask_many(port: int, requests: list[Kind], count: int, connections: int, seed: int) -> Counter[tuple[str, int]]:
    """Sends `count` requests, one on each connection at a time; the next ones follow when all are answered.

    Returns:
        (kind's name, status) → how often it came back; status 0 for no response.
    """
    rng = np.random.default_rng(seed)
    weights = np.array([kind.weight for kind in requests], dtype=np.float64)
    order = rng.choice(len(requests), 10_000, p=weights / weights.sum())
    askers = [Asker(port) for _ in range(connections)]
    seen: Counter[tuple[str, int]] = Counter()
    place = 0
    while place < count:
        turn = [requests[order[(place + i) % len(order)]] for i in range(min(connections, count - place))]
        for asker, kind in zip(askers, turn, strict=False):
            asker.send(kind.request)
        for asker, kind in zip(askers, turn, strict=False):
            seen[kind.name, asker.receive()] += 1
        place += len(turn)
        if _progress is not None:
            with _progress.get_lock():
                _progress.value += len(turn)
    return seen


def watch(server: OurServer, progress: Synchronized[int], total: int, done) -> dict[int, list[tuple[int, int]]]:
    """Samples every worker's memory until all requests are done: process → (requests so far, resident bytes)."""
    sizes: dict[int, list[tuple[int, int]]] = {}
    began, next_look = time.perf_counter(), 0.0
    with tqdm(total=total, unit="requests", disable=None) as bar:
        while not done():
            time.sleep(0.2)
            bar.update(progress.value - bar.n)
            if progress.value >= next_look:
                next_look = progress.value + total / LOOKS
                for worker in server.workers():
                    sizes.setdefault(worker.pid, []).append((progress.value, worker.memory_info().rss))
                now = ", ".join(f"{size[-1][1] / 1e6:.1f} MB" for size in sizes.values())
                rate = progress.value / (time.perf_counter() - began)
                bar.write(f"{progress.value:>10,} requests, {rate:,.0f}/s, resident {now}")
    return sizes


def memory(sizes: dict[int, list[tuple[int, int]]]) -> None:
    """Prints each worker's memory and its slope, without what the first requests allocate once."""
    for pid, looks in sizes.items():
        settled = np.array(looks[len(looks) // 4 :], dtype=np.float64)
        slope = np.polyfit(settled[:, 0], settled[:, 1], 1)[0] * 1_000 if len(settled) > 1 else float("nan")
        print(f"worker {pid}: {looks[0][1] / 1e6:.1f} MB, then {looks[-1][1] / 1e6:.1f} MB; ", end="")
        print(f"{slope:+,.0f} bytes per 1,000 requests of the server")


def compare(seen: Counter[tuple[str, int]], before: Counter, after: Counter, requests: list[Kind]) -> None:
    """Prints how many requests got which status, and where /metrics differs."""
    by_name = {kind.name: kind for kind in requests}
    ours: Counter[tuple[str, int]] = Counter()
    for (name, status), count in sorted(seen.items()):
        wanted = by_name[name].status
        COUNTS.print_row(name, status, count, note="" if status == wanted else f"   UNEXPECTED, not {wanted}")
        ours[route_of(by_name[name].path, status), status] += count
    ours["/metrics", 200] += 1  # the GET before the first request
    server = after - before
    wrong = [key for key in sorted({*ours, *server}) if ours[key] != server[key]]
    for route, status in wrong:
        print(f"DIFFERS: {route} {status}: asked {ours[route, status]:,}, /metrics {server[route, status]:,}")
    print(f"{sum(seen.values()):,} requests; counters of /metrics: ", end="")
    print(f"{len(wrong)} of {len({*ours, *server})} differ" if wrong else f"all {len(ours)} equal the clients' own")


if __name__ == "__main__":
    main()
