"""Commands in processes of their own that are killed at a chosen call."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable
from pkgutil import resolve_name
from typing import Any


def killing(function: Callable[..., Any], after: bool) -> Callable[..., Any]:
    """The function, but whoever calls it is killed: before it does anything, or after it is done."""

    def killed(*arguments: Any, **options: Any) -> None:
        if after:
            function(*arguments, **options)
        os.kill(os.getpid(), signal.SIGKILL)

    return killed


FORKS = multiprocessing.get_context("forkserver")
"""A process of its own that has imported what moves take, and no database open; whoever is to die is forked from it."""
FORKS.set_forkserver_preload(["registry.moves.promotion", "registry.moves.registration", "registry.moves.judge"])


def die_at(step: str, after: bool, environment: dict[str, str], command: Callable[..., Any], *arguments: Any) -> None:
    os.environ.clear()  # the other process's
    os.environ.update(environment)
    place, _, name = step.rpartition(".")
    setattr(resolve_name(place), name, killing(resolve_name(step), after))
    command(*arguments)


def killed_at(step: str, after: bool, command: Callable[..., Any], *arguments: Any) -> None:
    """Runs a command in a process that is killed when it first calls `step`, a function's full name."""
    process = FORKS.Process(target=die_at, args=(step, after, dict(os.environ), command, *arguments))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL


def run_in_process(environment: dict[str, str], command: Callable[..., Any], *arguments: Any) -> None:
    """Runs a command with the test's environment, not that of the process it is forked from."""
    os.environ.clear()
    os.environ.update(environment)
    command(*arguments)


def started(command: Callable[..., Any], *arguments: Any) -> Any:
    """A process that runs a command, beside this one and others."""
    process = FORKS.Process(target=run_in_process, args=(dict(os.environ), command, *arguments))
    process.start()
    return process
