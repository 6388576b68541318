"""A Unix socket to listen on: created with its permissions, never in the place of one that is in use.

Processes that start, or end, at the same path take turns by a lock file beside it, so that none removes the socket that
another has just made. Only this user may open that file, since whoever can open a file can lock it; and it is removed
after use.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import socket
import stat
import time
from collections.abc import Iterator
from pathlib import Path

from carla_mlflow.errors import RefusedError

LOCKED_S = 5.0
"""Most seconds to wait for other processes that start at the same path."""
PAUSE_S = 0.01


class UnixListener:
    """A socket that listens. Connections wait in its queue until workers accept them."""

    def __init__(self, path: Path, mode: int, backlog: int) -> None:
        """Binds it; a socket at the path on which no process listens any more is removed first.

        Args:
            path: absolute.
            mode: permissions, such as 0o660.
            backlog: connections that may wait to be accepted.

        Raises:
            RefusedError: something else is at the path, or another server listens there; or the folder can't be used.
        """
        self._path, self._pid = path, os.getpid()
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            with _alone_at(path):
                _make_room(path)
                before = os.umask(0o777 & ~mode)
                try:
                    self._socket.bind(str(path))
                finally:
                    os.umask(before)
                self._socket.listen(backlog)  # before others look: one that does not listen counts as left behind
                self._made = _identity(path)
        except OSError as error:
            self._socket.close()
            raise RefusedError(_explain(path, error)) from error
        except BaseException:
            self._socket.close()
            raise

    def detach(self) -> int:
        """Returns the file descriptor, which the caller owns from now on."""
        return self._socket.detach()

    def remove(self) -> None:
        """Removes the socket's path if it is still ours. Call it after every process has closed the socket.

        Does nothing in a process that was forked from the one that made it.
        """
        if os.getpid() != self._pid:
            return
        self._socket.close()  # where it was not detached
        with contextlib.suppress(OSError, RefusedError), _alone_at(self._path):
            if _identity(self._path) == self._made and not _answers(self._path):
                self._path.unlink()


@contextlib.contextmanager
def _alone_at(path: Path) -> Iterator[None]:
    """Holds the lock file of a path."""
    lock = path.with_name(f".{path.name}.lock")
    ends = time.monotonic() + LOCKED_S
    while (opened := _locked(lock)) is None:
        if time.monotonic() > ends:
            raise RefusedError(f"another process holds the lock {lock}; try again later")
        time.sleep(PAUSE_S)
    try:
        yield
    finally:
        lock.unlink(missing_ok=True)
        os.close(opened)


def _locked(lock: Path) -> int | None:
    """The lock file's descriptor; None while another process holds it."""
    opened = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o600)
    with contextlib.suppress(BlockingIOError, FileNotFoundError):
        fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.path.samestat(os.fstat(opened), os.lstat(lock)):  # else the one before has removed it
            return opened
    os.close(opened)
    return None


def _make_room(path: Path) -> None:
    try:
        found = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(found):
        raise RefusedError("what is there is no socket, and is left as it is; choose another path")
    if _answers(path):
        raise RefusedError("another server listens there; stop it, or choose another path")
    path.unlink()


def _answers(path: Path) -> bool:
    """Whether any process listens on the socket; raises OSError where that can't be found out."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            return False
        except BlockingIOError:  # its queue is full
            return True
        except OSError as error:
            if error.errno == errno.EPROTOTYPE:  # it takes datagrams
                return True
            raise
    return True


def _identity(path: Path) -> tuple[int, int]:
    found = path.lstat()
    return found.st_dev, found.st_ino


def _explain(path: Path, error: OSError) -> str:
    if isinstance(error, FileNotFoundError | NotADirectoryError):
        return f"there is no folder {path.parent}; create it, or choose another path"
    if isinstance(error, PermissionError):
        return f"this user may not use {path} and its folder ({error.strerror}); choose another path"
    return error.strerror or str(error)
