"""What every command shares: one clear line on stderr instead of a traceback, and exit codes that mean something.

0 done · 1 refused · 2 usage · 3 unreachable · 130 interrupted
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
import warnings
from collections.abc import Callable, Sequence

from .errors import CarlaMlflowError, UnreachableError

DONE, REFUSED, USAGE, UNREACHABLE, INTERRUPTED = 0, 1, 2, 3, 130


def add_debug(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")


def run_command(parser: argparse.ArgumentParser, arguments: Sequence[str] | None = None) -> int:
    """Parses, calls the chosen command's `run(options)`, and turns errors into a line and an exit code."""
    options = parser.parse_args(arguments)
    command: Callable[[argparse.Namespace], int | None] = options.run
    quieten_mlflow()
    try:
        return command(options) or DONE
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return INTERRUPTED
    except (CarlaMlflowError, OSError) as error:
        if options.debug:
            raise
        print(f"{parser.prog}: {one_line(error)}", file=sys.stderr)
        return UNREACHABLE if isinstance(error, UnreachableError) else REFUSED


def one_line(error: BaseException) -> str:
    """An error as one line: an OSError by its file and its reason (`No space left on device`)."""
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return " ".join(str(error).split()) or type(error).__name__


def quieten_mlflow() -> None:
    """MLflow's notices about databases, telemetry and its own deprecations are not our commands' output."""
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "ERROR")
    os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")
    logging.getLogger("alembic").setLevel(logging.WARNING)
    warnings.simplefilter("ignore", FutureWarning)
