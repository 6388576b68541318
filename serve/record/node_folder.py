"""The folder of one node's recordings: its chain of files, HEAD, and how much of the disk it may take."""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import platform
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import IO

import msgspec

from carla_mlflow.escaping import one_line
from serve.record.chain import readable, recorded_paths
from serve.record.file_info import file_hash
from serve.record.head_file import HEAD, Head, read_head, write_head
from serve.record.recording_file import RecordingFile
from serve.record.schema import Images

LOCK = ".lock"
UNFINISHED = ".tmp"
MAX_WRITERS = 64
"""Most servers on one machine that may record into the same folder at a time."""

log = logging.getLogger("serve.record")


class NodeFolder:
    """The only writer of one node's folder; others may read it at any time.

    Attributes:
        path: of the folder.
        head: what HEAD says, or will say once the disk takes it.
    """

    def __init__(self, recordings: Path, max_bytes: int, preferred: str = "") -> None:
        """Takes the folder named after this machine, or, where another server writes there, one with a number.

        Args:
            recordings: as given to `--record`.
            max_bytes: of all files in the node's folder.
            preferred: the folder's name if it is free, of a writer that this one replaces.

        Raises:
            OSError: it can't be written.
        """
        self._max_bytes = max_bytes
        recordings.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._lock, self.path = _locked_folder(recordings, preferred)
        known = read_head(self.path)
        self.head = known or Head()
        self._recover(known is None)

    def _recover(self, without_head: bool) -> None:
        """Takes in files that were finished, but are not in HEAD, and removes what a killed writer left."""
        for left in (*self.path.glob(f"*/.*{UNFINISHED}"), *self.path.glob(f".{HEAD}.*")):
            left.unlink(missing_ok=True)
        known = {name for name, _ in self.head.files.values()}
        new = [path for path in recorded_paths(self.path) if str(path.relative_to(self.path)) not in known]
        files, damages = readable(new)
        for damage in damages:
            log.warning("%s: %s", *damage)
        for file in sorted(files, key=lambda each: each.info.number):
            if without_head or (file.info.number, file.info.previous) == (self.head.number + 1, self.head.sha256):
                self._take_in(file.path, file.info.number, file_hash(file.path), file.rows, file.info.cursors)
                self._forget(file.info.replaces)
            elif any(file.info.number in each.info.replaces for each in files) or file.info.number <= self.head.number:
                file.path.unlink(missing_ok=True)  # merged or deleted, but for its removal from the disk
        self.save()

    def close(self) -> None:
        """Lets others write to the folder."""
        self._lock.close()

    def new_file(self, day: str, name: str) -> Path:
        """Returns the path of an unfinished file; its folder is there."""
        folder = self.path / day
        folder.mkdir(mode=0o700, exist_ok=True)
        return folder / f".{name}{UNFINISHED}"

    def place(
        self,
        file: RecordingFile,
        name: str,
        contract: str,
        images: Images,
        cursors: dict[str, int],
        lost: Mapping[str, int] | None = None,
        replaces: Iterable[int] = (),
    ) -> None:
        """Finishes a file and makes it the next in the chain.

        Args:
            file: with all its rows.
            name: of the finished file, without its number.
            contract: of its cards, as `schema.columns_key`.
            images: what it has of images.
            cursors: how far the rings are read with it.
            lost: rows that are lost up to there, by reason.
            replaces: numbers of the files whose rows it holds.

        Raises:
            OSError: the disk is full.
        """
        number, rows = self.head.number + 1, file.rows
        hashes = {each: self.head.files[each][1] for each in replaces}
        sha256 = file.finish(number, self.head.sha256, contract, images, cursors, hashes)
        path = file.path.with_name(f"{name}-{number}.parquet")
        os.replace(file.path, path)
        self._take_in(path, number, sha256, 0 if hashes else rows, cursors)
        replaced = self._forget(hashes)
        self.count(lost or {}, cursors, self.head.episodes)
        for each in replaced:
            each.unlink(missing_ok=True)

    def _take_in(self, path: Path, number: int, sha256: str, rows: int, cursors: dict[str, int]) -> None:
        files = {**self.head.files, number: (str(path.relative_to(self.path)), sha256)}
        self.head = msgspec.structs.replace(
            self.head, number=number, sha256=sha256, files=files, rows=self.head.rows + rows, cursors=cursors
        )

    def _forget(self, numbers: Iterable[int]) -> list[Path]:
        gone = [number for number in numbers if number in self.head.files]
        paths = [self.path / self.head.files[number][0] for number in gone]
        files = {number: known for number, known in self.head.files.items() if number not in gone}
        self.head = msgspec.structs.replace(self.head, files=files)
        return paths

    def count(self, lost: Mapping[str, int], cursors: dict[str, int], episodes: int) -> None:
        """Notes rows that are lost besides, by reason, up to where, and the next number of an episode."""
        every = {reason: self.head.lost.get(reason, 0) + rows for reason, rows in lost.items() if rows}
        self.head = msgspec.structs.replace(
            self.head, lost={**self.head.lost, **every}, cursors=cursors, episodes=episodes
        )
        self.save()

    def save(self) -> None:
        """Writes HEAD; on a full disk it stays as it was, and the next call writes it."""
        try:
            write_head(self.path, self.head)
        except OSError as error:
            log.warning("%s/HEAD could not be written: %s", self.path, one_line(error))
            for left in self.path.glob(".HEAD.*"):
                left.unlink(missing_ok=True)

    def keep_within_limit(self) -> None:
        """Deletes the oldest files until the others fit; the newest always stays."""
        sizes = {number: _size(self.path / name) for number, (name, _) in self.head.files.items()}
        by_age = sorted(sizes, key=lambda number: self.head.files[number][0])
        total, gone = sum(sizes.values()), list[int]()
        for number in by_age[:-1]:
            if total <= self._max_bytes:
                break
            total -= sizes[number]
            gone.append(number)
        if not gone:
            return
        paths = self._forget(gone)
        self.save()
        for path in paths:
            path.unlink(missing_ok=True)
            with contextlib.suppress(OSError):  # the day has other files
                path.parent.rmdir()

    def files_of_hours_before(self, hour: str) -> dict[str, list[tuple[int, Path]]]:
        """The young files of each hour that is over: `YYYY-MM-DD/HH` → numbers and paths, in order of their numbers."""
        found: dict[str, list[tuple[int, Path]]] = {}
        for number, (name, _) in sorted(self.head.files.items()):
            young = re.fullmatch(r"(\d{4}-\d\d-\d\d/\d\d)\d\d-\d+\.parquet", name)
            if young and young[1] < hour:
                found.setdefault(young[1], []).append((number, self.path / name))
        return found


def _locked_folder(recordings: Path, preferred: str) -> tuple[IO[str], Path]:
    node = re.sub(r"[^A-Za-z0-9._-]", "_", platform.node()).lstrip(".") or "node"
    names = [preferred] * bool(preferred) + [node] + [f"{node}-{number}" for number in range(2, MAX_WRITERS + 1)]
    for name in names:
        folder = recordings / name
        folder.mkdir(mode=0o700, exist_ok=True)
        file = open(folder / LOCK, "a")  # noqa: SIM115  held for the life of the process
        with contextlib.suppress(BlockingIOError):
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return file, folder
        file.close()
    raise OSError(f"{MAX_WRITERS} servers of this machine record into {recordings} already")


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0
