"""Makes each benchmark's --help from its module's docstring, with the arguments that several of them have."""

from __future__ import annotations

import argparse
import signal
import sys
from pathlib import Path
from typing import NoReturn

from carla_mlflow.command_parser import CommandParser, add_help

EXAMPLE = Path("examples/v0.1.0")


def parser_of(docstring: str | None) -> CommandParser:
    """A parser for the module whose docstring begins `python -m benchmarks.NAME …: what it measures`."""
    signal.signal(signal.SIGTERM, _leave)
    text = docstring or ""
    parser = CommandParser(" ".join(text.split(maxsplit=3)[:3]).rstrip(":"), description=text)
    add_help(parser)
    return parser


def _leave(number: int, _: object) -> NoReturn:
    """Ends the benchmark as Ctrl-C does, so that it stops its servers, which are not in its process group."""
    sys.exit(128 + number)


def add_artifact(parser: argparse.ArgumentParser) -> None:
    """Adds the folder of the policy to measure, by default the example's."""
    parser.add_argument("artifact", type=Path, nargs="?", default=EXAMPLE, help=f"folder (default {EXAMPLE})")


def add_workers(parser: argparse.ArgumentParser, default: int, note: str = "") -> None:
    """Adds --workers, the number of carla-serve's processes."""
    parser.add_argument(
        "--workers", type=int, default=default, help=f"processes of carla-serve (default {default}{note})"
    )
