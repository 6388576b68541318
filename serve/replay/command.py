"""python -m serve replay: what drove, whether it gives the same bits again, and what another version would have done.

Reads what `carla-serve --record` wrote. Exit codes: 0 every answer that was run again is the recorded one (on another
kind of processor: within the card's tolerance), 1 one differs, a file is damaged or nothing could be run, 2 usage, 3
the registry of --model does not answer.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from carla_mlflow.cli import file_to_write, run_command
from carla_mlflow.command_parser import CommandParser, add_common
from carla_mlflow.contract.backend_names import CHOICES
from carla_mlflow.look import say_next
from serve.replay.times import EXPECTED, moment, nanoseconds

EXAMPLES = (
    "python -m serve replay recordings",
    "python -m serve replay recordings --at 2026-11-28T14:02 --model mine@0.2.0 --html report.html",
    "python -m serve replay recordings --episode car-7 --mcap drive.mcap",
)


def build_parser() -> CommandParser:
    parser = CommandParser("python -m serve replay", EXAMPLES, description=__doc__.partition("\n\n")[2])
    parser.add_argument("recording", type=Path, metavar="DIR", help="the folder that carla-serve --record names")
    _add_which(parser.add_argument_group("which part of it"))
    _add_policies(parser.add_argument_group("what runs"))
    _add_results(parser.add_argument_group("what is written"))
    add_common(parser)
    parser.set_defaults(run=replay)
    return parser


def _add_which(group: Any) -> None:
    group.add_argument(
        "--at",
        type=moment,
        metavar="TIME",
        help="only a moment, as long as it is written: a day, an hour, a minute, a second; local unless it ends in Z",
    )
    group.add_argument(
        "--from", dest="start", type=nanoseconds, metavar="TIME", help=f"only from this time on; {EXPECTED}"
    )
    group.add_argument("--to", dest="end", type=nanoseconds, metavar="TIME", help="only before this time")
    group.add_argument("--episode", metavar="ID", help="only one episode")


def _add_policies(group: Any) -> None:
    group.add_argument(
        "--model", metavar="FOLDER|REF", help="another version to compare: a folder, mine@0.2.0, folder/@^1.2"
    )
    group.add_argument(
        "--artifacts",
        type=Path,
        action="append",
        default=[],
        metavar="DIR",
        help="where the artifacts of what drove may lie, beside the cache and the registry: a folder of them, or one; "
        "may be repeated",
    )
    group.add_argument("--device", default="auto", metavar="NAME", help="auto, cpu, cuda or cuda:N (default auto)")
    group.add_argument(
        "--backend",
        default="recorded",
        choices=("recorded", *(name for name in CHOICES if name != "auto")),
        help="default: as recorded",
    )
    group.add_argument(
        "--trust-types", metavar="A,B", help="types trusted in preprocessor.skops (or POLICY_TRUST_TYPES)"
    )


def _add_results(group: Any) -> None:
    group.add_argument("--html", type=file_to_write, metavar="FILE", help="write a report for a browser, in one file")
    group.add_argument("--lerobot", type=Path, metavar="DIR", help="export the rows as a LeRobot dataset, format v3.0")
    group.add_argument(
        "--mcap", type=file_to_write, metavar="FILE", help="export the rows as an MCAP file with JSON messages"
    )


def replay(options: argparse.Namespace) -> int:
    """Checks the flags, then replays; pyarrow and the backends are imported in between."""
    if options.at is not None and (options.start is not None or options.end is not None):
        return int(options.usage("--at names a moment, --from and --to a span: give one of them"))
    from serve.replay.run import replay as run

    code = run(options)
    if code == 0 and options.model is None and options.html is None:
        say_next(f"python -m serve replay {options.recording} --model REF --html report.html", only_to_people=True)
    return code


def main(arguments: Sequence[str] | None = None) -> int:
    return run_command(build_parser(), arguments, extra="replay")


if __name__ == "__main__":
    sys.exit(main())
