"""Puts the rows of a recording together to episodes, as exports need them: whole, one after the other."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from serve.replay.rows import NO_FRAME, REFUSED, integers, plain, timestamps

IDLE_NS = 600 * 10**9
"""An episode without a row for so long has ended; nanoseconds. What comes later under its id is another one."""
NO_EPISODE = "in no episode"
NO_ACTION = "refused, without an action"

Key = tuple[str, int, int]
"""An episode's id, its place in requests, and the number of its rows' columns, as another contract has others."""
OF_EPISODE = -1


class WholeEpisodes:
    """Collects rows by episode, and gives each one away when it has ended.

    Attributes:
        left_out: reason → rows that are in no episode.
    """

    def __init__(self) -> None:
        self.left_out: Counter[str] = Counter()
        self._open: dict[Key, list[pa.RecordBatch]] = {}
        self._schemas: dict[pa.Schema, int] = {}

    def add(self, batch: pa.RecordBatch) -> Iterator[pa.Table]:
        """Takes a batch; yields the episodes that have ended by its time, whole or up to a gap in their frames."""
        acted = pc.not_equal(plain(batch.column("outcome")), REFUSED)
        named = pc.is_valid(batch.column("episode_id"))
        self.left_out[NO_ACTION] += len(batch) - pc.sum(acted).as_py() if len(batch) else 0
        kept = batch.filter(pc.and_(acted, named))
        self.left_out[NO_EPISODE] += (pc.sum(acted).as_py() or 0) - len(kept)
        columns = self._schemas.setdefault(batch.schema, len(self._schemas))
        for episode, rows in _by_episode(kept):
            self._open.setdefault((*episode, columns), []).append(rows)
        if len(batch):
            latest = int(timestamps(batch).max())
            ended = [key for key, rows in self._open.items() if latest - int(timestamps(rows[-1])[-1]) > IDLE_NS]
            for key in ended:
                yield from _parts(self._open.pop(key))

    def rest(self) -> Iterator[pa.Table]:
        """Yields the episodes that have not ended, in the order in which they began."""
        for key in list(self._open):
            yield from _parts(self._open.pop(key))


def _by_episode(batch: pa.RecordBatch) -> Iterator[tuple[tuple[str, int], pa.RecordBatch]]:
    if not len(batch):
        return
    ids, rows = plain(batch.column("episode_id")).dictionary_encode(), integers(batch, "row", 0)
    width = int(rows.max(initial=0)) + 1
    keys = ids.indices.to_numpy(zero_copy_only=False).astype(np.int64) * width + rows
    names = ids.dictionary.to_pylist()
    order = np.argsort(keys, kind="stable")
    values, starts = np.unique(keys[order], return_index=True)
    for value, places in zip(values.tolist(), np.split(order, starts[1:]), strict=True):
        yield (names[value // width], value % width), batch.take(pa.array(places))


def _parts(batches: list[pa.RecordBatch]) -> Iterator[pa.Table]:
    """The rows of one episode in the order of time, cut where steps are missing or its version changes."""
    table = pa.Table.from_batches(batches).combine_chunks()
    table = table.take(pc.sort_indices(table, sort_keys=[("timestamp", "ascending")])).combine_chunks()
    whole = table.to_batches()[0]
    digest = plain(whole.column("digest")).dictionary_encode().indices.to_numpy(zero_copy_only=False)
    cuts = np.union1d(np.flatnonzero(np.diff(digest)) + 1, _after_gaps(whole))
    for start, stop in zip([0, *cuts.tolist()], [*cuts.tolist(), len(table)], strict=True):
        yield table.slice(start, stop - start)


def _after_gaps(batch: pa.RecordBatch) -> NDArray[np.int64]:
    """Places of the rows before which steps are missing.

    Steps of a policy with memory are the episode's. Without one each worker counts its own, so that a worker's rows
    that are lost before its first one are not seen. Rows without a step, such as fallbacks, are passed over.
    """
    frame = integers(batch, "frame_index", NO_FRAME)
    is_own = batch.column("reset").is_null().to_numpy(zero_copy_only=False)
    counter = np.where(is_own, integers(batch, "worker", OF_EPISODE), OF_EPISODE)
    known = np.flatnonzero(frame != NO_FRAME)
    order = known[np.argsort(counter[known], kind="stable")]
    step = np.diff(frame[order])
    return np.sort(order[1:][((step < 0) | (step > 1)) & (np.diff(counter[order]) == 0)])
