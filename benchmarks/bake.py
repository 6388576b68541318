"""python -m benchmarks.bake judge | record: how often a bake's alarms are wrong, on histories from real scrapes.

`record` drives the example policy in its simulator through a server, and writes what that counts every second.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from pathlib import Path

from benchmarks.correctness.bake_histories import Recording, judge, read_recording, write_recording
from benchmarks.support.command_line import EXAMPLE, parser_of
from benchmarks.support.our_server import OurServer
from benchmarks.support.table import Column, Table
from registry.checks.scrape import scrape
from registry.rules.counted import Counted, Key, added, growth, version_of
from registry.rules.figures import figures

DATA = Path("tests/data")
METRICS = (
    "fallback_rate",
    "saturation",
    "saturation.steer",
    "out_of_range",
    "p50_ms",
    "p90_ms",
    "p99_ms",
    "p99_ms.inference",
)


def main() -> None:
    parser = parser_of(__doc__)
    commands = parser.add_subparsers(required=True, metavar="judge | record")
    command = commands.add_parser("judge", help="judge made-up histories")
    command.add_argument("recordings", type=Path, nargs="*", default=sorted(DATA.glob("scrapes*.json")))
    command.add_argument("--histories", type=int, default=200)
    command.set_defaults(run=_judge)
    command = commands.add_parser("record", help="record a real run")
    command.add_argument("output", type=Path)
    command.add_argument("--seconds", type=int, default=120)
    command.add_argument("--cars", type=int, default=2)
    command.add_argument("--budget-ms", default="0", help="of the server: what takes longer gets the fallback")
    command.set_defaults(run=_record)
    options = parser.parse_args()
    options.run(options)


def _judge(options: argparse.Namespace) -> None:
    columns = (Column("figure", 12), Column("false", 8), Column("found", 8), Column("after s", 9, ",.0f"))
    for path in options.recordings:
        recording = read_recording(path)
        every = figures(Counted(added(recording.seconds), recording.version))
        print(f"{path}: {len(recording.seconds)} s; {options.histories} histories of each kind\n")
        table = Table("", 20, columns)
        table.print_heading()
        for seed, metric in enumerate(METRICS):
            if not every.get(metric):
                continue
            outcome = judge(recording, metric, options.histories, seed)
            table.print_row(metric, f"{every[metric]:.3g}", str(outcome.false), str(outcome.found), outcome.seconds)
        print()


def _record(options: argparse.Namespace) -> None:
    with OurServer("--model", str(EXAMPLE), "--budget-ms", options.budget_ms) as server:
        url = f"http://127.0.0.1:{server.port}"
        drive = [sys.executable, "-m", "training_export", "drive", "--url", url, "--episodes", "10000", "--first-seed"]
        seeds = [str(10_000 + 1000 * car) for car in range(options.cars)]
        cars = [subprocess.Popen([*drive, seed], stdout=subprocess.DEVNULL) for seed in seeds]
        try:
            while not _actions(url):
                time.sleep(0.5)
            seconds, before = [], scrape(url)
            for _ in range(options.seconds):
                time.sleep(1.0)
                now = scrape(url)
                seconds.append({key: value for key, value in growth(before, now).items() if _is_judged(key)})
                before = now
        finally:
            for car in cars:
                car.terminate()
                car.wait()
    versions = sorted({version_of(key) for key in seconds[-1]})
    write_recording(options.output, Recording(versions[-1], seconds))
    print(f"{options.output}: {len(seconds)} s of {versions[-1]}")


def _is_judged(key: Key) -> bool:
    """Whether a sample is about a version, and not of the histograms of actions, which no alarm reads."""
    return bool(version_of(key)) and not key[0].startswith("policy_action_")


def _actions(url: str) -> float:
    found = scrape(url).samples
    return sum(value for (name, _), value in found.items() if name == "policy_actions_total")


if __name__ == "__main__":
    main()
