"""HEAD: the small file of a node's folder with the hashes of the files that are kept, and with what was lost."""

from __future__ import annotations

from pathlib import Path

import msgspec

from serve.run_folder import read_file, write_file

HEAD = "HEAD"


class Head(msgspec.Struct, frozen=True):
    """The state of a node's recording after its last finished file.

    Attributes:
        number: of the last file in the chain; 0 before the first.
        sha256: of that file, 64 hex digits; empty before the first.
        files: those that are kept, oldest first: number → (path in the node's folder, sha256).
        rows: rows that were written since the beginning.
        episodes: the next `episode_index`.
        lost: rows that were lost since the beginning, by reason.
        cursors: how far the rings were read: ring → the next row's sequence number.
    """

    number: int = 0
    sha256: str = ""
    files: dict[int, tuple[str, str]] = {}
    rows: int = 0
    episodes: int = 0
    lost: dict[str, int] = {}
    cursors: dict[str, int] = {}


def read_head(folder: Path) -> Head | None:
    """The HEAD of a node's folder; None where there is none, or it can't be read."""
    return read_file(folder / HEAD, Head)


def write_head(folder: Path, head: Head) -> None:
    """Replaces the HEAD of a node's folder."""
    write_file(folder / HEAD, head)
    (folder / HEAD).chmod(0o600)
