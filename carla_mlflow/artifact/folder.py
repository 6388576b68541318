"""Folders that appear on disk complete or not at all, and survive a power cut."""

from __future__ import annotations

import os
import secrets
import shutil
import stat
from pathlib import Path

PARTIAL = ".partial"
"""Suffix of the name of a folder that is being written, or that a killed process left behind."""


class new_folder:  # noqa: N801  reads as a function at its call
    """Context manager: yields a private folder that is renamed to `path`, or removed when the block raises."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._beside = path.with_name(f".{path.name}.{secrets.token_hex(4)}{PARTIAL}")

    def __enter__(self) -> Path:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._beside.mkdir(mode=0o700)
        return self._beside

    def __exit__(self, kind: object, *_: object) -> None:
        try:
            if kind is None:
                _sync(self._beside)
                os.rename(self._beside, self._path)
                _sync(self._path.parent)
        finally:
            shutil.rmtree(self._beside, ignore_errors=True)


def write_synced(path: Path, data: bytes) -> None:
    """Writes a file, which survives a power cut once this returns."""
    with open(path, "xb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def sync_file(path: Path) -> None:
    """Syncs a plain file to disk, which then survives a power cut; anything but a plain file is left alone."""
    if stat.S_ISREG(path.lstat().st_mode):
        with open(path, "rb") as file:
            os.fsync(file.fileno())


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
