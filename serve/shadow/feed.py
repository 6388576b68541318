"""The rows that the workers leave in their rings, for the shadow: its share of them, those of an episode in order."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import psutil
import pyarrow as pa

from carla_mlflow.contract.card import Card
from carla_mlflow.errors import CarlaMlflowError
from carla_mlflow.escaping import one_line
from serve.record.blocks import BlockDecoder
from serve.record.ring import SUFFIX, RingError, rings_in
from serve.record.ring_reader import RingReader
from serve.record.shares import of_share
from serve.replay.rows import timestamps
from serve.shadow.reasons import OVERTAKEN, RESTART, UNREADABLE

HOLD_S = 1.0
"""Seconds for which rows are held back where their order matters: by then every worker has written what came before, so
that an episode's rows come in order also if it went from one worker to another."""
READ_BYTES = 4 << 20
"""About how much of each ring is read at a time."""

log = logging.getLogger("serve.shadow")


class Feed:
    """Reads all rings of a server. What it misses is counted, never waited for."""

    def __init__(
        self, folder: Path, share: float, positions: Mapping[str, int], only_new: bool = False, frees: bool = False
    ) -> None:
        """Begins to read.

        Args:
            folder: with the rings.
            share: of the episodes, and of the requests without one, from 0 to 1.
            positions: name of a ring → the row from which it is read; others are read from the oldest that they have.
            only_new: whether to pass over what is in the rings now.
            frees: whether to remove the rings of workers that have ended, as nobody else does without a recording.
        """
        self._folder, self._share, self._begin_at = folder, share, dict(positions)
        self._frees = frees
        self._readers: dict[str, RingReader] = {}
        self._decoder = BlockDecoder(folder)
        self._held: dict[str, list[pa.RecordBatch]] = {}
        self._done: dict[str, int] = {}
        self._lost: Counter[str] = Counter()
        if only_new:
            self._open_new(only_new=True)

    @property
    def positions(self) -> dict[str, int]:
        """Name of a ring → its next row to read."""
        return self._begin_at | self._done | {name: reader.sequence for name, reader in self._readers.items()}

    @property
    def rows_held(self) -> int:
        """Rows that were read and are held back."""
        return sum(len(batch) for batches in self._held.values() for batch in batches)

    def card_of(self, digest: str) -> Card:
        """The card of a policy whose rows were read, by its digest."""
        return self._decoder.card_of(digest)

    def read(self, in_order: bool) -> Iterator[tuple[str, pa.RecordBatch]]:
        """Yields what is new: digests, 64 hex digits, each with rows of that policy.

        Args:
            in_order: whether rows are sorted by time, for which those of the last second are held back.
        """
        self._find()
        came, self._held = self._held, {}
        for name, reader in list(self._readers.items()):
            for digest, batch in self._read(name, reader):
                came.setdefault(digest, []).append(batch)
        for digest, batches in came.items():
            batch = _joined(batches)
            if in_order:
                batch, held = _until(batch, time.time_ns() - int(HOLD_S * 1e9))
                if len(held):
                    self._held[digest] = [held]
            if len(batch):
                yield digest, batch

    def free_ended(self) -> None:
        """Gives up the rings of workers that have ended, with what is unread; while there is nobody to read."""
        self._find()
        for name, reader in list(self._readers.items()):
            if self._has_ended(reader):
                self._end(name, reader)

    def take_lost(self) -> Counter[str]:
        """Reason → rows that were lost since the last call."""
        lost, self._lost = self._lost, Counter()
        return lost

    def close(self) -> None:
        """Closes the rings."""
        for reader in self._readers.values():
            reader.close()
        self._readers = {}

    def _find(self) -> None:
        """Opens the rings that have come since, and forgets those that are gone."""
        there = {path.stem for path in rings_in(self._folder)}
        self._begin_at = {name: at for name, at in self._begin_at.items() if name in there}
        self._done = {name: at for name, at in self._done.items() if name in there}
        self._open_new()

    def _open_new(self, only_new: bool = False) -> None:
        """Opens the rings that have come since; `only_new`: each at its end."""
        for path in rings_in(self._folder):
            name = path.stem
            if name in self._readers or name in self._done:
                continue
            known = self._begin_at.get(name, 0)
            try:
                self._readers[name] = RingReader(path, None if only_new else known)
            except RingError as error:
                log.warning("%s", one_line(error))
                self._done[name] = known
                continue
            if only_new:
                self._lost[RESTART] += max(0, self._readers[name].sequence - known)

    def _read(self, name: str, reader: RingReader) -> Iterator[tuple[str, pa.RecordBatch]]:
        is_last = self._has_ended(reader)
        for block in reader.read(READ_BYTES):
            try:
                batch = of_share(self._decoder.decode(block), self._share)
            except (CarlaMlflowError, pa.ArrowException, ValueError) as error:
                self._lost[UNREADABLE] += block.rows
                log.warning("rows of a ring can't be read: %s", one_line(error))
                continue
            if len(batch):
                yield block.digest, batch
        self._lost[OVERTAKEN] += reader.lost
        self._lost[UNREADABLE] += reader.failed
        reader.lost = reader.failed = 0
        if is_last and not reader.behind:
            self._end(name, reader)

    @staticmethod
    def _has_ended(reader: RingReader) -> bool:
        return reader.is_closed or not psutil.pid_exists(reader.worker)

    def _end(self, name: str, reader: RingReader) -> None:
        """Closes the ring of a worker that has ended; what is missing was not read, or the worker died writing it."""
        missing = reader.missing
        self._lost[OVERTAKEN] += missing
        del self._readers[name]
        self._done[name] = reader.sequence + missing
        reader.close()
        if self._frees:
            (self._folder / (name + SUFFIX)).unlink(missing_ok=True)


def _joined(batches: list[pa.RecordBatch]) -> pa.RecordBatch:
    if len(batches) == 1:
        return batches[0]
    [batch] = pa.Table.from_batches(batches).combine_chunks().to_batches()
    return batch


def _until(batch: pa.RecordBatch, latest: int) -> tuple[pa.RecordBatch, pa.RecordBatch]:
    """The rows that came before a time, nanoseconds since 1970, sorted by theirs; and the others."""
    times = timestamps(batch)
    order = np.argsort(times, kind="stable")
    early = int(np.searchsorted(times[order], latest))
    return batch.take(pa.array(order[:early])), batch.take(pa.array(order[early:]))
