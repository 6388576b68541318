"""A child process for work that may crash, hang or exhaust memory: loading a policy that somebody else made.

The parent starts a module of this project, reads its output as lines of JSON, and may kill it at any moment. The child
ends when its parent does, and the kernel kills it first when memory runs out.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import select
import signal
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from . import errors
from .collector import collect_less
from .errors import ArtifactError, CarlaMlflowError, CrashError, DeviceError

POLL_S = 0.01
"""Seconds without output after which `watch` is called."""
PARENT = "CARLA_PARENT_PID"
"""The environment variable with the parent's process id, for the child."""
_PR_SET_PDEATHSIG = 1

Watch = Callable[[int], None]


def values_of(
    module: str, arguments: Sequence[str], environment: Mapping[str, str] | None = None, watch: Watch | None = None
) -> Iterator[Any]:
    """Runs `python -m module arguments…` and yields each value that it writes.

    Args:
        module: one whose main program calls `write_values`.
        arguments: of its command line.
        environment: variables in addition to this process's own.
        watch: called with the child's pid after every POLL_S without output; an exception from it ends the child.

    Raises:
        CrashError: the child died before it was done.
        ArtifactError, DeviceError: the child raised it.
    """
    command = [sys.executable, "-P", "-m", module, *arguments]  # -P: imports nothing from the current folder
    given = {**os.environ, **(environment or {}), PARENT: str(os.getpid())}
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, env=given)
    assert process.stdout is not None
    done = False
    try:
        for line in _lines(process.stdout.fileno(), process.pid, watch):
            message = msgspec.json.decode(line)
            if "error" in message:
                raise _error(*message["error"])
            done = "done" in message
            if not done:
                yield message["value"]
        code = process.wait()
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
    if not done:
        raise CrashError(_reason_of_exit(code), code)


def _lines(descriptor: int, pid: int, watch: Watch | None) -> Iterator[bytes]:
    """The lines that can be read from the descriptor, until its end."""
    text, readable = b"", select.poll()  # not select(), which fails for descriptors from 1,024 on
    readable.register(descriptor, select.POLLIN)
    while True:
        if watch is not None and not readable.poll(POLL_S * 1e3):
            watch(pid)
            continue
        part = os.read(descriptor, 65536)
        if not part:
            return
        *lines, text = (text + part).split(b"\n")
        yield from lines


def _error(name: str, text: str) -> CarlaMlflowError:
    kind = getattr(errors, name, ArtifactError)
    return kind(text) if issubclass(kind, ArtifactError | DeviceError) else ArtifactError(text)


def _reason_of_exit(code: int) -> str:
    if code >= 0:
        return f"the process that loaded it ended (exit code {code})"
    name = signal.Signals(-code).name
    return f"the process that loaded it was killed ({name}{', perhaps out of memory' if name == 'SIGKILL' else ''})"


def write_values(values: Callable[[], Iterable[Any]]) -> int:
    """The main program of a child: writes each value, then `done` or the error; returns the exit code."""
    end_with_parent(signal.SIGKILL, int(os.environ[PARENT]))
    collect_less()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent handles Ctrl-C, and ends this process
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")
    out = os.dup(1)
    os.dup2(2, 1)  # what a library prints goes to stderr
    try:
        for value in values():
            _write(out, {"value": value})
        _write(out, {"done": True})
    except CarlaMlflowError as error:
        _write(out, {"error": [type(error).__name__, str(error)]})
    except Exception as error:  # the boundary: whatever a policy can make a library raise
        _write(out, {"error": ["ArtifactError", f"it can't be loaded: {type(error).__name__}: {error}"]})
    return 0


def _write(descriptor: int, message: dict[str, Any]) -> None:
    line = msgspec.json.encode(message) + b"\n"
    while line:
        line = line[os.write(descriptor, line) :]


def end_with_parent(number: signal.Signals, parent: int) -> None:
    """Makes the kernel send this process a signal when its parent ends, for whatever reason.

    Args:
        number: the signal.
        parent: the process that started this one.
    """
    with contextlib.suppress(AttributeError, OSError):  # only Linux has it
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(number))
    if os.getppid() != parent:
        os.kill(os.getpid(), number)
