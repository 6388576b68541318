"""python -m benchmarks.capacity [--cars 100000 --hz 20 --cores 32]: a fleet's needs, computed from one measured core.

Simulates one worker whose cars each send requests periodically, at unrelated moments: requests that arrive during a
forward are answered by the next one (natural batching). A batch costs `fixed-us` plus `each-us` per request; the
defaults are from `python -m benchmarks.serving` (docs/explanation/capacity.md says how). Then computes nodes,
bandwidth, and the load of a promotion on the registry.
"""

from __future__ import annotations

import argparse
import math
from dataclasses import dataclass

import numpy as np

from benchmarks.support.command_line import parser_of
from benchmarks.support.percentiles import median, p99
from benchmarks.support.table import Column, Table

SECONDS = 20.0
"""Simulated time."""
BYTES = {"JSON": (520, 490), "/v2 binary": (760, 620), "image, /v2": (138_900, 620)}
"""Bytes of a request with one observation, and of its response, heads included."""
FRAMING = 1.05
"""The factor that TCP and TLS add, roughly."""

TIMES = (Column("p50 ms", 9, ".2f"), Column("p99 ms", 9, ".2f"))
WORKERS = Table("", 0, (Column("cars", 8, ","), Column("load", 8, ".0%"), *TIMES, Column("a turn", 9, ".1f")))


@dataclass(frozen=True)
class Turned:
    """A simulated worker's load (0 to 1), milliseconds from request to response, and mean requests per batch."""

    busy: float
    p50_ms: float
    p99_ms: float
    rows: float


def simulate(cars: int, hz: float, fixed_us: float, each_us: float, jitter: float = 0.1) -> Turned:
    """Simulates one worker and its cars.

    Args:
        cars: how many, each sending one request per period.
        hz: requests per second of one car.
        fixed_us: microseconds per batch.
        each_us: microseconds per request in a batch.
        jitter: standard deviation of a request's moment, as a share of the period.
    """
    rng = np.random.default_rng(0)
    periods = int(SECONDS * hz)
    moments = (rng.uniform(size=(cars, 1)) + np.arange(periods) + rng.normal(0, jitter, (cars, periods))) / hz
    asked = np.sort(moments.ravel())
    now, first, busy, turns, waits = 0.0, 0, 0.0, 0, np.empty(len(asked))
    while first < len(asked):
        now = max(now, asked[first])
        stop = int(np.searchsorted(asked, now, side="right"))
        took = (fixed_us + each_us * (stop - first)) / 1e6
        now += took
        waits[first:stop] = now - asked[first:stop]
        busy, turns, first = busy + took, turns + 1, stop
        if now > 2 * SECONDS:  # it can't catch up any more
            return Turned(1.0, math.inf, math.inf, math.inf)
    return Turned(busy / SECONDS, 1e3 * median(waits), 1e3 * p99(waits), len(asked) / turns)


def most_cars(hz: float, fixed_us: float, each_us: float, limit_ms: float, spare: float) -> int:
    """The most cars per worker such that with `spare` times as many its p99 is still within the limit."""
    low, high = 0, int(2e6 / each_us / hz)
    while high - low > max(1, high // 200):
        middle = (low + high) // 2
        seen = simulate(middle, hz, fixed_us, each_us)
        low, high = (middle, high) if seen.p99_ms <= limit_ms else (low, middle)
    return int(low / spare)


def main() -> None:
    parser = parser_of(__doc__)
    add = parser.add_argument
    add("--cars", type=int, default=100_000)
    add("--hz", type=float, default=20.0, help="requests per second of one car (default 20)")
    add("--cores", type=int, default=32, help="cores of a node (default 32)")
    add("--fixed-us", type=float, default=98.0, help="microseconds per batch (default 98, measured)")
    add("--each-us", type=float, default=13.9, help="microseconds per request in a batch (default 13.9, measured)")
    add("--image-us", type=float, default=480.0, help="microseconds per image request, with its forward (default 480)")
    add("--limit-ms", type=float, default=5.0, help="the largest p99 allowed, milliseconds (default 5)")
    add(
        "--spare",
        type=float,
        default=2.0,
        help="how many times its cars a worker could take (default 2: one of two zones may fail)",
    )
    add("--poll-s", type=float, default=5.0, help="seconds between a follower's polls (default 5)")
    add(
        "--artifact-mb",
        type=float,
        default=0.2,
        help="megabytes of a version (default 0.2, the example; 5 with images)",
    )
    add("--looks", type=float, default=100.0, help="polls that the registry answers per second (default 100)")
    options = parser.parse_args()
    print_worker(options)
    nodes = print_fleet(options, "JSON", options.each_us)
    print_fleet(options, "/v2 binary", 1.4 * options.each_us)
    print_fleet(options, "image, /v2", options.image_us)
    print_promotion(options, nodes)


def print_worker(options: argparse.Namespace) -> None:
    """Prints how the time to the response grows as a worker gets more cars."""
    print(f"one worker, cars that ask {options.hz:g}/s; a turn takes {options.fixed_us:g} + {options.each_us:g} n µs")
    WORKERS.print_heading()
    full = int(1e6 / options.each_us / options.hz)
    for share in (0.02, 0.1, 0.25, 0.5, 0.75, 0.9, 0.98, 1.05):
        seen = simulate(int(full * share), options.hz, options.fixed_us, options.each_us)
        WORKERS.print_row("", int(full * share), seen.busy, seen.p50_ms, seen.p99_ms, seen.rows)


def print_fleet(options: argparse.Namespace, what: str, each_us: float) -> int:
    """Prints workers, nodes and bandwidth; returns the nodes."""
    a_worker = most_cars(options.hz, options.fixed_us, each_us, options.limit_ms, options.spare)
    workers = math.ceil(options.cars / max(1, a_worker))
    nodes = math.ceil(workers / options.cores)
    asked = options.cars * options.hz
    there, back = (asked * size * FRAMING * 8 / 1e9 for size in BYTES[what])
    print(f"\n{options.cars:,} cars at {options.hz:g} Hz, {what}: {asked / 1e6:.1f} million requests/s")
    print(f"  {a_worker:,} cars a worker, {workers:,} workers, {nodes:,} nodes of {options.cores} cores")
    print(f"  {there:.1f} Gbit/s in, {back:.1f} out; a node {there / nodes:.2f} and {back / nodes:.2f}")
    return nodes


def print_promotion(options: argparse.Namespace, nodes: int) -> None:
    """Prints the registry's load with a follower per node, per core or per car."""
    print(f"\nregistry, asked every {options.poll_s:g} s, of which it answers {options.looks:g}/s (--looks)")
    for who, followers in (("a node", nodes), ("a core", nodes * options.cores), ("a car", options.cars)):
        looks, fetched = followers / options.poll_s, followers * options.artifact_mb
        verdict = "holds" if looks < options.looks / 2 else "breaks"
        text = f"  a follower {who}: {followers:,} of them, {looks:,.1f} looks/s: {verdict}"
        print(f"{text}; a promotion fetches {fetched:,.0f} MB in {options.poll_s:g} s")


if __name__ == "__main__":
    main()
