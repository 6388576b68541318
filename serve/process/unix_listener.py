"""A Unix socket to listen on: created with its permissions, never in the place of one that is in use.

Processes that start, or end, in the same folder take turns by a lock on the folder, so that none removes the socket
that another has just made.
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
"""Most seconds to wait for other processes that start in the same folder."""
PAUSE_S = 0.01


class UnixListener:
    """A socket that listens. Connections wait in its queue until workers accept them."""

    def __init__(self, path: Path, mode: int, backlog: int) -> None:
        """Binds it; a socket at the path that nobody answers any more is removed first.

        Args:
            path: absolute.
            mode: permissions, such as 0o660.
            backlog: connections that may wait to be accepted.

        Raises:
            RefusedError: something else is at the path, or a server that answers; or the folder can't be used.
        """
        self._path = path
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            with _alone_in(path.parent):
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
        """Removes the socket's path, unless it is gone or somebody else's; every process has closed the socket."""
        self._socket.close()  # where it was not detached
        with contextlib.suppress(OSError, RefusedError), _alone_in(self._path.parent):
            if _identity(self._path) == self._made and not _answers(self._path):
                self._path.unlink()


@contextlib.contextmanager
def _alone_in(folder: Path) -> Iterator[None]:
    """Holds a lock on the folder itself, so that no lock file is left there."""
    opened = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        ends = time.monotonic() + LOCKED_S
        while True:
            try:
                fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError as error:
                if time.monotonic() > ends:
                    raise RefusedError(f"another process holds a lock on {folder}; try again later") from error
            time.sleep(PAUSE_S)
        yield
    finally:
        os.close(opened)


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
