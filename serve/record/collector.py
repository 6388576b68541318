"""Reads the rings of all workers of a server from where the finished files end, and counts what it was too late for."""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from carla_mlflow.errors import CarlaMlflowError
from carla_mlflow.escaping import one_line
from serve.record.blocks import BlockDecoder
from serve.record.ring import SUFFIX, Block, RingError, rings_in
from serve.record.ring_reader import RingReader

REASONS = RING_FULL, WRITER_ENDED, DISK_FULL, FAILED = "ring_full", "writer_ended", "disk_full", "failed"
"""Why rows were lost: the writer was too slow; it was away for too long; the disk took nothing; they can't be packed
or read back."""

log = logging.getLogger("serve.record")


class Collector:
    """The readers of one server's rings.

    A gap in the middle of what goes into a file may turn out larger, if that file fails and its rows are read again; so
    it is counted once that file is finished. A gap before the first row after the finished files is final.

    Attributes:
        decoder: of their blocks.
        lost: rows lost among those that are read, but not yet in a finished file, by reason.
        gone: rows lost for good, by reason; for the owner to take away.
        saved: ring → the first row's sequence number that is neither in a finished file nor gone.
    """

    def __init__(self, folder: Path, cursors: dict[str, int]) -> None:
        """Reads each ring from its cursor, rings without one from their beginning.

        Args:
            folder: of the rings.
            cursors: `saved` of the process before this one.
        """
        self._folder = folder
        self.saved = {path.stem: cursors[path.stem] for path in rings_in(folder) if path.stem in cursors}
        self._readers: dict[str, RingReader] = {}
        self._why = dict.fromkeys(self.saved, WRITER_ENDED)  # what it means that a ring's next rows are gone
        self.decoder = BlockDecoder(folder)
        self.lost: Counter[str] = Counter()
        self.gone: Counter[str] = Counter()

    def read(self, most: int = 8 << 20) -> Iterator[Block]:
        """Yields what is new in all rings, about `most` bytes of each."""
        self._look_for_rings()
        for name, reader in self._readers.items():
            for block in reader.read(most):
                self._count(name, reader, block.first)
                if self._is_known(block):
                    yield block
            self.lost[FAILED] += reader.failed
            reader.failed = 0

    def _look_for_rings(self) -> None:
        for path in rings_in(self._folder):
            if path.stem in self._readers:
                continue
            try:
                self._readers[path.stem] = RingReader(path, self.saved.get(path.stem, 0))
            except RingError as error:
                log.warning("%s", one_line(error))

    def _count(self, name: str, reader: RingReader, first: int) -> None:
        reason = self._why.pop(name, None)
        if reader.lost and reason is not None:
            self.gone[reason] += reader.lost
            self.saved[name] = first
        elif reader.lost:
            self.lost[RING_FULL] += reader.lost
        reader.lost = 0

    def _is_known(self, block: Block) -> bool:
        """Whether the block's policy is; if not, its rows are lost."""
        try:
            self.decoder.key_of(block.digest)
        except (CarlaMlflowError, OSError) as error:
            log.error("%d rows can't be recorded: %s", block.rows, one_line(error))
            self.lost[FAILED] += block.rows
            return False
        return True

    @property
    def cursors(self) -> dict[str, int]:
        """How far each ring has been read."""
        return {name: reader.sequence for name, reader in self._readers.items()}

    def save(self, cursors: dict[str, int]) -> None:
        """Notes that the rows up to there are in finished files; frees the rings of workers that have ended."""
        self.saved = dict(cursors)
        self.gone += self.lost
        self.lost.clear()
        for name in self.ended:
            reader = self._readers[name]
            if not reader.behind and cursors.get(name) == reader.sequence:
                self.gone[FAILED] += reader.missing  # the worker was killed while it wrote them
                reader.close()
                del self._readers[name], self.saved[name]
                (self._folder / f"{name}{SUFFIX}").unlink(missing_ok=True)

    def begin_again(self) -> None:
        """Goes back to the end of the finished files, since the disk did not take what was read after it."""
        self.lost.clear()
        for reader in self._readers.values():
            reader.close()
        self._readers.clear()
        self._why = dict.fromkeys((path.stem for path in rings_in(self._folder)), DISK_FULL)

    @property
    def ended(self) -> list[str]:
        """The rings whose workers have ended."""
        return [name for name, reader in self._readers.items() if reader.is_closed or not _runs(reader.worker)]

    @property
    def is_drained(self) -> bool:
        """Whether every worker has ended, and all rows are read."""
        return len(self.ended) == len(self._readers) and not any(each.behind for each in self._readers.values())

    def give_up(self) -> None:
        """Counts all that is not in finished files as lost: this process ends, and the disk takes nothing."""
        self.begin_again()
        self._look_for_rings()
        for name, reader in self._readers.items():
            self.gone[DISK_FULL] += reader.missing
            self.saved[name] = reader.sequence + reader.missing


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True
