"""The writer: moves what all workers of a node recorded from their rings to Parquet files.

A file is a minute, or FILE_BYTES. Rows count as kept once their file is finished; until then they also lie in the ring,
so that a writer that is killed and started again goes on with the first row that is in no file, if the ring has it
still. So does one that met a full disk.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Generator, Iterator
from pathlib import Path

from carla_mlflow.escaping import one_line
from serve.record.collector import FAILED, REASONS, Collector
from serve.record.episode_numbers import EpisodeNumbers
from serve.record.machine import origin_of_server
from serve.record.merge import merging
from serve.record.node_folder import NodeFolder
from serve.record.open_file import OpenFile
from serve.record.ring import Block
from serve.record.schema import Images
from serve.record.start import ring_plan
from serve.settings import Settings
from serve.telemetry import metrics

FILE_BYTES = 64 << 20
"""About the most bytes of a file before it is merged."""
MAX_ENDED = 4
"""Rings of ended workers that wait for their rows to be in a finished file; with more, the file is finished at once."""
RETRY_S, MAX_RETRY_S = 1.0, 10.0
"""Seconds until the next try after the disk took nothing: the first wait, and the longest."""
NODE = "node"
"""File in the folder of the rings with the name of the node's folder: the next writer takes the same."""

log = logging.getLogger("serve.record")


class Writer:
    """Moves rows from the rings to files."""

    def __init__(self, settings: Settings, rings: Path) -> None:
        """Raises OSError when the folder can't be written."""
        plan, share = ring_plan(settings), settings.record_share
        self._share = share if plan is not None and plan.share > share else 1.0  # else the rings carry no more
        self._images: Images = settings.record_images  # type: ignore[assignment]  # one of CHOICES
        self._origin = origin_of_server(settings)
        before = rings / NODE
        preferred = before.read_text() if before.exists() else ""
        self._node = NodeFolder(Path(settings.record), int(settings.record_max_gb * 1e9), preferred)
        before.write_text(self._node.path.name)
        self._collector = Collector(rings, self._node.head.cursors)
        self._numbers = EpisodeNumbers(self._node.head.episodes)
        self._open: dict[str, OpenFile] = {}  # by `columns_key`
        self._minute = _minute_of(time.time())
        self._merge: Iterator[None] = iter(())
        self._merged_before = ""
        self._not_before = self._retry_s = 0.0
        self._published = dict(self._node.head.lost), self._node.head.rows
        for reason in REASONS:  # from the start, since what has never been counted can't rise
            metrics.RECORD_DROPPED.labels(reason)

    def step(self, now: float) -> None:
        """Reads the rings once, and finishes files that are due. `now` are seconds since 1970."""
        if now < self._not_before:
            return
        minute = _minute_of(now)
        try:
            if self._open and (minute != self._minute or len(self._collector.ended) > MAX_ENDED):
                self._finish()
            self._minute = minute
            for block in self._collector.read():
                self._add(block)
            if not self._open or any(file.size >= FILE_BYTES for file in self._open.values()):
                self._finish()
        except OSError as error:
            self._failed(error, now)
        self._take_losses()

    def merge(self, now: float) -> None:
        """Does a piece of merging the files of hours that are over; to be called between two steps."""
        hour = _minute_of(now)[:-2]
        if hour != self._merged_before:
            self._merge, self._merged_before = merging(self._node, hour), hour
        next(self._merge, None)

    def _add(self, block: Block) -> None:
        key = self._collector.decoder.key_of(block.digest)
        file = self._open.get(key)
        if file is None:
            day, name = self._minute.split("/")
            path = self._node.new_file(day, f"{name}-{len(self._open)}")
            decoder = self._collector.decoder
            file = self._open[key] = OpenFile(path, block.digest, self._images, decoder, self._numbers, self._share)
            file.origin.update(self._origin)
        file.add(block)

    def _finish(self) -> None:
        """Finishes the open files, and deletes the oldest where there are too many; raises OSError on a full disk."""
        cursors = self._collector.cursors
        if cursors == self._collector.saved and not self._open and not self._collector.ended:
            return
        name = self._minute.rpartition("/")[2]
        for file in self._open.values():  # so that what the disk does not take fails before one of them is placed
            file.complete()
            self._collector.lost[FAILED] += file.failed
        while self._open:
            key, file = next(iter(self._open.items()))
            is_last = len(self._open) == 1  # until then the rows of the others are in no file
            until, lost = (cursors, self._collector.lost) if is_last else (self._collector.saved, None)
            self._node.place(file.complete(), name, key, self._images, until, lost)
            del self._open[key]
            if is_last:
                self._collector.lost.clear()
        self._collector.save(cursors)
        self._take_losses()
        if self._retry_s:
            log.warning("recordings are written again")
            self._retry_s = 0.0
        self._node.keep_within_limit()

    def _take_losses(self) -> None:
        """Notes what is lost for good in HEAD, and publishes what HEAD has in the metrics."""
        gone, head = self._collector.gone, self._node.head
        if +gone or head.cursors != self._collector.saved:
            self._node.count(gone, dict(self._collector.saved), self._numbers.following)
            gone.clear()
        lost, rows = self._published
        head = self._node.head
        for reason, count in head.lost.items():
            metrics.RECORD_DROPPED.labels(reason).inc(count - lost.get(reason, 0))
        metrics.RECORDED.inc(head.rows - rows)
        self._published = head.lost, head.rows

    def _failed(self, error: OSError, now: float) -> None:
        """Gives up the open files; their rows are read once more, as far as the rings have them then."""
        if not self._retry_s:  # once, not at every try
            log.error("recordings can't be written: %s", one_line(error))
        self._retry_s = min(max(RETRY_S, 2 * self._retry_s), MAX_RETRY_S)
        for file in self._open.values():
            file.drop()
        self._open.clear()
        self._collector.begin_again()
        self._not_before = now + self._retry_s

    @property
    def is_drained(self) -> bool:
        """Whether every worker has ended and all its rows are read."""
        return self._collector.is_drained

    def stop(self) -> None:
        """Finishes the open files; counts as lost what the disk does not take."""
        if isinstance(self._merge, Generator):
            self._merge.close()
        try:
            for block in self._collector.read(most=1 << 62):  # all that is there
                self._add(block)
            self._finish()
        except OSError as error:
            self._failed(error, time.time())
            self._collector.give_up()
        self._take_losses()
        self._node.close()


def _minute_of(now: float) -> str:
    """A time in seconds since 1970 as day and minute, UTC."""
    return time.strftime("%Y-%m-%d/%H%M", time.gmtime(now))
