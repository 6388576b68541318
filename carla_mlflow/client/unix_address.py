"""Addresses of Unix sockets, as servers and clients take them: unix:/run/policy.sock."""

from __future__ import annotations

import os
from pathlib import Path

SCHEME = "unix:"
LOCAL = "http://localhost"
"""Origin of the requests over a Unix socket, which has no name of its own for the header Host."""
MAX_PATH_BYTES = 107
"""Most bytes of a socket's path: `sun_path` of unix(7) has 108, and the last one is zero."""


def is_unix(address: str) -> bool:
    """Whether the address is meant to be a Unix socket's."""
    return address.startswith(SCHEME)


def socket_path(address: str) -> Path:
    """Returns the absolute path of a Unix socket; a relative one begins in the working folder.

    `unix:///run/policy.sock`, the form of a URL, is the same as `unix:/run/policy.sock`.

    Raises:
        ValueError: there can be no socket at such an address; says why.
    """
    text = address.removeprefix(SCHEME)
    if text.startswith("//"):
        if not text.startswith("///"):
            raise ValueError(
                f"{address!r}: a Unix socket is on no host; write unix:/{text.lstrip('/')}, or unix:/// and its path"
            )
        text = "/" + text.lstrip("/")
    if not text or text.endswith("/"):
        raise ValueError(f"{address!r}: expected the path of a socket, such as unix:/run/policy.sock")
    if text[0] in "@\0":
        raise ValueError(
            f"{address!r}: abstract sockets are not supported, as every user of the machine could connect to one; "
            "expected a path, such as unix:/run/policy.sock"
        )
    if "\0" in text:
        raise ValueError(f"{address!r}: a path holds no zero byte")
    path = Path(text).absolute()
    if (size := len(os.fsencode(path))) > MAX_PATH_BYTES:
        raise ValueError(f"unix:{path}: has {size} bytes, and the path of a socket at most {MAX_PATH_BYTES}")
    return path
