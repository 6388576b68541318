"""A worker's side of recording: requests append to a list, which is packed and put into the ring in bulk."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from serve.limits import RING_BYTES
from serve.record.hook import Answered, Refused
from serve.record.pack import Packer, wall_clock_offset_ns
from serve.record.pack_errors import packed_errors
from serve.record.packed import PACK, Packed
from serve.record.ring import ACTED, FAILED, OBSERVED
from serve.record.ring_writer import RingWriter
from serve.record.schema import Images, in_share

if TYPE_CHECKING:
    from serve.answering.prediction import Prediction
    from serve.policy.serving import Serving

MAX_ROWS, MAX_BYTES = 256, 1 << 20
"""Rows, and about the bytes, that are packed at once; a block has at most twice as many."""

log = logging.getLogger("serve.record")


class Recorder:
    """Records the requests of one worker. `answered` and `refused` may be called from several threads.

    Attributes:
        soon: calls a function once the event loop has nothing more urgent to do; None: packs at once.
    """

    def __init__(self, folder: Path, share: float, images: Images, capacity: int = RING_BYTES) -> None:
        """Creates the ring.

        Args:
            folder: for the rings of a server.
            share: of the episodes, and of the requests without one, that is recorded.
            images: `keep` or `none`.
            capacity: of the ring, bytes.

        Raises:
            RingError: there is no memory for it.
        """
        self._folder, self._share, self._images = folder, share, images
        self._packer, self._ring = Packer(images), RingWriter(folder, capacity)
        self._answered: list[Answered] = []
        self._refused: list[Refused] = []
        self._rows, self._most_rows = 0, MAX_ROWS
        self.soon: Callable[[Callable[[], None]], object] | None = None
        self._is_due = False
        self._known: set[str] = set()
        self._lock = threading.Lock()

    def answered(self, prediction: Prediction, request_id: str) -> None:
        """Records a request that was answered with actions."""
        answered = prediction.answered
        assert answered is not None
        batch, start, stop = answered.batch, answered.start, answered.stop
        values = (
            request_id,
            prediction.episode_id,
            prediction.received,
            prediction.started,
            prediction.ended,
            prediction.decode_s,
            batch.arrays,
            start,
            stop,
            0,
            prediction.serving,
        )
        entry = tuple.__new__(Answered, values)  # a third of the time that the class takes for it
        self._answered.append(entry)  # atomic: no lock is needed
        self._rows += stop - start
        if self._rows >= self._most_rows:
            self._hurry()

    def refused(self, refused: Refused) -> None:
        """Records a request that got an error."""
        self._refused.append(refused)
        self._rows += 1
        if self._rows >= self._most_rows:
            self._hurry()

    def _hurry(self) -> None:
        if self.soon is None:
            self.flush()
        elif not self._is_due:
            self._is_due = True
            self.soon(self.flush)

    def flush(self) -> None:
        """Packs what has come into the ring; to be called ten times a second."""
        with self._lock:
            self._is_due, self._rows = False, 0
            if not self._answered and not self._refused:
                return
            answered, refused = self._answered[:], self._refused[:]  # copies: other threads may append
            del self._answered[: len(answered)], self._refused[: len(refused)]
            if self._share < 1:
                answered = [each for each in answered if in_share(each.episode_id, each.request_id, self._share)]
                refused = [each for each in refused if in_share(each.episode_id, each.request_id, self._share)]
            sequence = self._ring.sequence
            try:
                self._put(answered, refused)
            except Exception:  # the boundary: recording never fails a request
                rows = sum(each.stop - each.start for each in answered) + len(refused) + sequence - self._ring.sequence
                log.exception("%d rows could not be recorded", rows)
                self._ring.append(bytes(32), max(0, rows), FAILED, b"")

    def _put(self, answered: list[Answered], refused: list[Refused]) -> None:
        """Puts what has come into the ring."""
        offset_ns = wall_clock_offset_ns()
        for serving, entries in _by_policy(answered):
            self._prepare(serving)
            most = 2 * self._most_rows
            rows = sum(each.stop - each.start for each in entries)  # not _rows: threads append before they count
            for part in [entries] if rows <= most else _parts(entries, most):
                self._append(serving, OBSERVED | ACTED, *self._packer.answered(serving, part, offset_ns))
        for serving in {id(each.serving): each.serving for each in refused}.values():
            self._prepare(serving)
            errors = [each for each in refused if each.serving is serving]
            for flags, count, packed in packed_errors(self._packer.layout(serving), errors, offset_ns, self._most_rows):
                self._append(serving, flags, count, packed)

    def _prepare(self, serving: Serving) -> None:
        """Sets the size of blocks, and before a policy's first one writes what readers need to know of it."""
        row_bytes = max(1, self._packer.layout(serving).row_bytes)
        self._most_rows = max(1, min(MAX_ROWS, min(MAX_BYTES, self._ring.capacity // 8) // row_bytes))
        if serving.digest not in self._known:
            from serve.record.blocks import write_policy
            from serve.record.machine import engine_note

            engine = serving.engine
            note = engine_note(engine.backend, engine.device.name)
            write_policy(self._folder, _hexadecimal(serving.digest), engine.card_bytes, self._images, note)
            self._known.add(serving.digest)

    def _append(self, serving: Serving, flags: int, rows: int, packed: Packed) -> None:
        self._ring.append(bytes.fromhex(_hexadecimal(serving.digest)), rows, flags, PACK(packed))

    def close(self) -> None:
        """Packs the rest, and tells the readers that no more follows."""
        self.flush()
        self._ring.close()


def _by_policy(entries: list[Answered]) -> Iterator[tuple[Serving, list[Answered]]]:
    """The entries of each policy; nearly always there is one."""
    while entries:
        serving = entries[0].serving
        others = [each for each in entries if each.serving is not serving]
        yield serving, [each for each in entries if each.serving is serving] if others else entries
        entries = others


def _parts(entries: list[Answered], most: int) -> Iterator[list[Answered]]:
    """The entries in parts of at most `most` rows; a request with more becomes several."""
    part, rows = list[Answered](), 0
    for entry in (some for each in entries for some in _cut(each, most)):
        count = entry.stop - entry.start
        if part and rows + count > most:
            yield part
            part, rows = [], 0
        part.append(entry)
        rows += count
    if part:
        yield part


def _cut(entry: Answered, most: int) -> Iterator[Answered]:
    for start in range(entry.start, entry.stop, most):
        yield entry._replace(start=start, stop=min(entry.stop, start + most), first=start - entry.start)


def _hexadecimal(digest: str) -> str:
    return digest.removeprefix("sha256:")
