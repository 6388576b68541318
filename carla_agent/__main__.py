"""python -m carla_agent drive: a policy drives in a CARLA simulator."""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from carla_mlflow.cli import DONE, add_debug, natural, positive, progress, run_command

from .agent_config import API_KEY

if TYPE_CHECKING:
    from carla_mlflow import Policy
    from carla_mlflow.latency.sources import LatencySource

USUAL_HZ, FINE_HZ = 20.0, 100.0
"""Ticks per simulated second; the latter under a latency in simulated time."""

DESCRIPTION = """\
Drives a car in a CARLA simulator with the actions of a running server (--url) or of a policy in this process
(--model), and says what happened: how far and how fast, collisions, lane invasions, ticks off the road, fallbacks,
the versions that drove, and their latency. The world runs in synchronous mode meanwhile, and is left as it was, but for
traffic lights, which --traffic resets: our actors are gone and its settings restored, also after Ctrl-C.
"""
EXAMPLE = """\
examples:
  python -m carla_agent drive --carla localhost:2000 --url http://localhost:8080 --seconds 60
  python -m carla_agent drive --url unix:/run/policy.sock --town Town04 --traffic 20 --gif out.gif
  python -m carla_agent drive --model mine@production --seconds 120 --json
  python -m carla_agent drive --model mine@production --realtime --latency 35ms --budget-ms 100

exit codes: 0 drove, 1 refused, 2 usage, 3 no simulator, server or registry answers, 130 interrupted
"""


def drive(options: argparse.Namespace) -> int:
    from .drive.connection import connect
    from .drive.drive import Drive, DriveOptions
    from .drive.interrupt import Interrupt
    from .drive.report import as_text

    latency = _latency(options)
    chosen = DriveOptions(
        town=options.town,
        seconds=options.seconds,
        hz=options.hz or (USUAL_HZ if latency is None else FINE_HZ),
        traffic=options.traffic,
        car=options.car,
        spawn=options.spawn,
        seed=options.seed,
        budget_ms=options.budget_ms,
        realtime=options.realtime,
        latency=latency,
        trace=options.trace,
        gif=options.gif,
        config=options.config,
    )
    with _opened(options) as policy, Interrupt() as interrupt:
        drive = Drive(connect(options.carla), policy, chosen, interrupt)
        try:
            drive.run()
        finally:
            figures = drive.figures()
            if figures is not None:
                film = str(options.gif) if drive.has_film else None
                figures = {"policy": policy.card.name, **figures, "gif": film}
                print(json.dumps(figures) if options.json else as_text(figures))
    return DONE


def _latency(options: argparse.Namespace) -> LatencySource | None:
    """What --latency names; None without it."""
    from carla_mlflow import DrivingError
    from carla_mlflow.latency.parse import parse_latency
    from carla_mlflow.latency.trace import check_target

    if options.latency is None:
        if options.trace is not None:
            raise DrivingError("--trace writes the latencies of --latency; the report has those of the clock")
        return None
    if not options.realtime:
        raise DrivingError("--latency is for --realtime; otherwise the world waits for the answer")
    if options.trace is not None:
        check_target(options.trace)
    return parse_latency(options.latency)


@contextmanager
def _opened(options: argparse.Namespace) -> Iterator[Policy]:
    """The policy that --url or --model names."""
    if options.url is not None:
        from carla_mlflow import PolicyClient

        with PolicyClient(options.url, api_key=options.api_key) as client:
            yield client
        return
    from carla_mlflow.flavor.opening import open_engine

    progress(f"loading {options.model}")
    with tempfile.TemporaryDirectory() as scratch:
        yield open_engine(options.model, Path(scratch))


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("python -m carla_agent", description="The car's side in CARLA.")
    commands = parser.add_subparsers(required=True, metavar="drive")
    command = commands.add_parser(
        "drive",
        help="drive in a simulator with a served or local policy",
        description=DESCRIPTION,
        epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    policy = command.add_mutually_exclusive_group(required=True)
    policy.add_argument("--url", help="the server, such as http://localhost:8080 or unix:/run/policy.sock")
    policy.add_argument("--model", help="drive in process: a folder, or a reference such as mine@production")
    command.add_argument(
        "--api-key",
        default=os.environ.get(API_KEY, ""),
        help=f"the server's key; default: {API_KEY} of the environment",
    )
    command.add_argument("--carla", default="localhost:2000", metavar="HOST:PORT", help="default %(default)s")
    command.add_argument("--town", help="such as Town04; default: the one that is loaded")
    command.add_argument(
        "--seconds",
        type=positive(float),
        default=60.0,
        help="length of the drive in simulated seconds (default %(default)g)",
    )
    command.add_argument(
        "--hz",
        type=positive(float),
        help=f"ticks per simulated second (default {USUAL_HZ:g}, with --latency {FINE_HZ:g}, which is the least there)",
    )
    command.add_argument(
        "--traffic", type=natural, default=0, metavar="N", help="other cars (default none); resets traffic lights"
    )
    command.add_argument("--seed", type=natural, default=0, help="seed of the traffic (default %(default)s)")
    command.add_argument("--car", metavar="BLUEPRINT", help="default vehicle.tesla.model3")
    command.add_argument("--spawn", type=natural, default=0, metavar="N", help="first spawn point to try (default 0)")
    command.add_argument(
        "--budget-ms",
        type=positive(float),
        help="longest time for a decision, milliseconds; default: one tick, with --latency no limit",
    )
    command.add_argument("--realtime", action="store_true", help="the world goes on while an answer is under way")
    command.add_argument(
        "--latency",
        metavar="35ms|TRACE|measured",
        help="how long that is in simulated time, with --realtime: always (35ms), as a Parquet file with the column "
        "latency_ms says, or as long as each answer takes (measured); the world then does not tick by the clock, and "
        "the machine's speed changes nothing",
    )
    command.add_argument("--trace", type=Path, metavar="FILE", help="write the latencies that applied, for --latency")
    command.add_argument("--gif", type=Path, help="write a film here, from behind the car")
    command.add_argument(
        "--config",
        type=Path,
        metavar="YAML",
        help="agent configuration that names the observers; default: the example that fits the card",
    )
    command.add_argument("--json", action="store_true", help="print one JSON object")
    command.set_defaults(run=drive)
    add_debug(command)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit code."""
    return run_command(build_parser(), arguments, "carla")


if __name__ == "__main__":
    sys.exit(main())
