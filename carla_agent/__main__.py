"""python -m carla_agent drive: a policy drives in a CARLA simulator."""

from __future__ import annotations

import argparse
import os
import shlex
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from carla_mlflow.cli import DONE, natural, positive, progress, run_command
from carla_mlflow.client.server_key import API_KEY
from carla_mlflow.command_parser import CommandParser, add_command, add_common, add_help
from carla_mlflow.look import say_next, show

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
EXAMPLES = (
    "python -m carla_agent drive --carla localhost:2000 --url http://localhost:8080 --seconds 60",
    "python -m carla_agent drive --url unix:/run/policy.sock --town Town04 --traffic 20 --gif out.gif",
    "python -m carla_agent drive --model mine@production --seconds 120 --json",
    "python -m carla_agent drive --model mine@production --realtime --latency 35ms --budget-ms 100",
)


def drive(options: argparse.Namespace) -> int:
    from carla_mlflow.interrupt import Interrupt

    from .drive.connection import connect
    from .drive.drive import Drive, DriveOptions
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
    with _opened(options) as policy, Interrupt("stopping; the world is restored first") as interrupt:
        progress(f"connecting to the simulator at {options.carla}")
        drive = Drive(connect(options.carla), policy, chosen, interrupt)
        try:
            drive.run()
        finally:
            figures = drive.figures()
            if figures is not None:
                film = str(options.gif) if drive.has_film else None
                figures = {"policy": policy.card.name, **figures, "gif": film}
                show(options.json, as_text(figures), figures)
        name = policy.card.name
    say_next(f"carla-registry history {shlex.quote(name)}")
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

        progress(f"asking {options.url} what drives there")
        with PolicyClient(options.url, api_key=options.api_key) as client:
            yield client
        return
    from carla_mlflow.flavor.opening import open_engine

    progress(f"loading {options.model}")
    with tempfile.TemporaryDirectory() as scratch:
        yield open_engine(options.model, Path(scratch))


def build_parser() -> CommandParser:
    parser = CommandParser("python -m carla_agent", EXAMPLES[:1], description="The car's side in CARLA.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND", title="commands")
    command = add_command(
        commands, "drive", "drive in a simulator with a served or local policy", EXAMPLES, description=DESCRIPTION
    )
    _add_policy(command.add_argument_group("the policy"))
    _add_world(command.add_argument_group("the simulator and what drives in it"))
    _add_latency(command.add_argument_group("time to decide (docs/how-to/latency.md)"))
    command.add_argument_group("what is written").add_argument(
        "--gif", type=Path, metavar="FILE", help="write a film here, from behind the car"
    )
    command.set_defaults(run=drive)
    add_common(command)
    add_help(parser)
    return parser


def _add_policy(group: Any) -> None:
    policy = group.add_mutually_exclusive_group(required=True)
    policy.add_argument(
        "--url", metavar="URL", help="the server, such as http://localhost:8080 or unix:/run/policy.sock"
    )
    policy.add_argument(
        "--model", metavar="FOLDER|REF", help="drive in process: a folder, or a reference such as mine@production"
    )
    group.add_argument(
        "--api-key",
        default=os.environ.get(API_KEY, ""),
        metavar="KEY",
        help=f"the server's key; default: {API_KEY} of the environment",
    )
    group.add_argument(
        "--config",
        type=Path,
        metavar="YAML",
        help="agent configuration that names the observers; default: the example that fits the card",
    )


def _add_world(group: Any) -> None:
    group.add_argument("--carla", default="localhost:2000", metavar="HOST:PORT", help="default %(default)s")
    group.add_argument("--town", metavar="TOWN", help="such as Town04; default: the one that is loaded")
    group.add_argument(
        "--seconds",
        type=positive(float),
        default=60.0,
        metavar="SECONDS",
        help="length of the drive in simulated seconds (default %(default)g)",
    )
    group.add_argument(
        "--hz",
        type=positive(float),
        metavar="HZ",
        help=f"ticks per simulated second (default {USUAL_HZ:g}, with --latency {FINE_HZ:g}, which is the least there)",
    )
    group.add_argument(
        "--traffic", type=natural, default=0, metavar="N", help="other cars (default none); resets traffic lights"
    )
    group.add_argument("--seed", type=natural, default=0, metavar="N", help="seed of the traffic (default %(default)s)")
    group.add_argument("--car", metavar="BLUEPRINT", help="default vehicle.tesla.model3")
    group.add_argument("--spawn", type=natural, default=0, metavar="N", help="first spawn point to try (default 0)")


def _add_latency(group: Any) -> None:
    group.add_argument(
        "--budget-ms",
        type=positive(float),
        metavar="MS",
        help="longest time for a decision, milliseconds; default: one tick, with --latency no limit",
    )
    group.add_argument("--realtime", action="store_true", help="the world goes on while an answer is under way")
    group.add_argument(
        "--latency",
        metavar="35ms|TRACE|measured",
        help="how long that is in simulated time, with --realtime: always (35ms), as a Parquet file with the column "
        "latency_ms says, or as long as each answer takes (measured); the world then does not tick by the clock, and "
        "the machine's speed changes nothing",
    )
    group.add_argument("--trace", type=Path, metavar="FILE", help="write the latencies that applied, for --latency")


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit code."""
    return run_command(build_parser(), arguments, "carla")


if __name__ == "__main__":
    sys.exit(main())
