"""What every command shares: errors as one line on stderr instead of a traceback, and an exit code."""

from __future__ import annotations

import argparse
import math
import os
import select
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from .collector import collect_less
from .errors import CarlaMlflowError, RefusedError, UnreachableError
from .escaping import escaped, one_line
from .exit_codes import DONE, INTERRUPTED, REFUSED, UNREACHABLE, UNREAD, USAGE
from .flavor.environment import prepare_mlflow
from .look import progress, showing, styled, warn

__all__ = [
    "DONE",
    "INTERRUPTED",
    "REFUSED",
    "UNREACHABLE",
    "USAGE",
    "file_to_write",
    "natural",
    "positive",
    "progress",
    "requiring",
    "run_command",
    "warn",
]

N = TypeVar("N", int, float)


def run_command(parser: argparse.ArgumentParser, arguments: Sequence[str] | None = None, extra: str = "serve") -> int:
    """Parses the command line, calls the chosen command's `run(options)`, and turns errors into an exit code.

    Args:
        parser: each of its commands sets the default `run`.
        arguments: the command line; None for the process's own.
        extra: the extra of this package that the commands need.
    """
    if sys.stdout is None:  # the shell has closed it (>&-)
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115  # until the process ends
    try:
        return _run(parser.prog, parser.parse_args(arguments), extra)
    except BrokenPipeError:
        if not is_unread():
            raise
        return UNREAD
    finally:
        drop_unwritten()


def _run(prog: str, options: argparse.Namespace, extra: str) -> int:
    collect_less()
    command: Callable[[argparse.Namespace], int | None] = options.run
    started = time.monotonic()
    try:
        prepare_mlflow()
        with showing(getattr(options, "quiet", False), getattr(options, "json", False)):
            code = command(options) or DONE
        sys.stdout.flush()
        return code
    except KeyboardInterrupt:
        if threading.current_thread() is threading.main_thread():
            # A second Ctrl-C, as while threads are waited for, ends the process at once instead of by a traceback.
            signal.signal(signal.SIGINT, signal.SIG_DFL)
        print("interrupted", file=sys.stderr)
        return INTERRUPTED
    except Exception as error:
        if isinstance(error, BrokenPipeError) and is_unread():
            return UNREAD
        if options.debug:
            raise
        expected = _expected(error, time.monotonic() - started)
        text = _format_expected(expected) if expected else _format_unexpected(error)
        program = styled(f"{prog}:", "bad", sys.stderr)
        print(f"{program} {_missing_requirement(error, extra) or text}", file=sys.stderr)
        return UNREACHABLE if isinstance(expected, UnreachableError) else REFUSED


def is_unread() -> bool:
    """Whether standard output is a pipe whose reader has left, as `head` does."""
    try:
        poll = select.poll()
        poll.register(sys.stdout.fileno(), 0)
    except (OSError, ValueError):  # no file, as in tests, or a closed one
        return False
    return any(event & select.POLLERR for _, event in poll.poll(0))


def drop_unwritten() -> None:
    """Drops what a reader that left or a full disk did not take: Python would try it once more at its end."""
    try:
        sys.stdout.flush()
    except OSError:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)


def _missing_requirement(error: Exception, extra: str) -> str | None:
    """What to install, when the missing module is a requirement of this package; else None."""
    from .extras import how_to_install

    return how_to_install(error, extra) if isinstance(error, ModuleNotFoundError) else None


@contextmanager
def requiring(program: str, extra: str) -> Iterator[None]:
    """Ends a program whose own imports, in this block, fail, with a line that says what to install."""
    try:
        yield
    except ModuleNotFoundError as error:
        sys.exit(f"{program}: {_missing_requirement(error, extra) or error}")


def _format_unexpected(error: Exception) -> str:
    return f"stopped by an unexpected error, {type(error).__name__}: {one_line(error)} (--debug shows where)"


def _format_expected(error: Exception) -> str:
    """The error as one line; the reasons of a refusal follow, one per line."""
    if isinstance(error, RefusedError) and error.shortfalls:
        return "\n  refused  ".join(map(escaped, [f"{error.headline}:", *error.shortfalls]))
    return one_line(error)


def _expected(error: Exception, tried_s: float) -> Exception | None:
    """The error if it is an expected one, to be shown as one line; None for a bug."""
    if isinstance(error, CarlaMlflowError | OSError):
        return error
    if "mlflow" in sys.modules:  # otherwise none of its exceptions can have been raised
        import mlflow

        from .flavor.database import database_errors, say_database, without_password
        from .flavor.translate_errors import translate

        uri = without_password(mlflow.get_tracking_uri())
        if isinstance(error, mlflow.exceptions.MlflowException):
            return translate(error, uri, tried_s)
        if isinstance(error, database_errors()):
            return UnreachableError(say_database(uri, error))
    return None


def positive(kind: Callable[[str], N]) -> Callable[[str], N]:
    """An argparse type: a finite number of that kind above 0."""

    def parse(text: str) -> N:
        value = kind(text)
        if not 0 < value < math.inf:
            raise argparse.ArgumentTypeError(f"{text} is not a finite number above 0")
        return value

    parse.__name__ = getattr(kind, "__name__", "number")
    return parse


def natural(text: str) -> int:
    """An argparse type: a whole number from 0 to 2**31 - 1."""
    value = int(text)
    if not 0 <= value < 2**31:
        raise argparse.ArgumentTypeError(f"{text} is not a whole number from 0 to 2**31 - 1")
    return value


def file_to_write(text: str) -> Path:
    """An argparse type: a file that is written at the end, so that its folder is looked for before anything else."""
    path = Path(text)
    is_folder = os.path.isdir(path)  # Path.is_dir() raises for a name that is too long
    if is_folder or not os.path.isdir(path.parent):
        raise argparse.ArgumentTypeError(f"{text}: is a folder" if is_folder else f"{path.parent}: no such folder")
    return path
