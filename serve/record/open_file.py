"""A file that takes blocks: they wait until there are enough for a row group, which is put together at once."""

from __future__ import annotations

import logging
from pathlib import Path

import pyarrow as pa

from carla_mlflow.errors import CarlaMlflowError
from carla_mlflow.escaping import one_line
from serve.record.blocks import BlockDecoder
from serve.record.episode_numbers import EpisodeNumbers
from serve.record.file_columns import as_written, schema_as_written, with_images
from serve.record.machine import ENGINE, Origin
from serve.record.recording_file import RecordingFile
from serve.record.ring import Block
from serve.record.schema import Images, recording_schema
from serve.record.shares import of_share

GROUP_ROWS, GROUP_BYTES = 8_192, 2 << 20
"""Rows, and bytes in memory, that make a row group: some milliseconds of work. Merged files have larger ones."""


log = logging.getLogger("serve.record")


class OpenFile:
    """Blocks of one contract on their way into a file.

    Attributes:
        failed: rows that could not be read.
    """

    def __init__(
        self,
        path: Path,
        digest: str,
        images: Images,
        decoder: BlockDecoder,
        numbers: EpisodeNumbers,
        share: float = 1.0,
    ) -> None:
        """Creates the file.

        Args:
            path: of the unfinished file.
            digest: of a policy with the contract, 64 hex digits.
            images: what is recorded of images.
            decoder: of the blocks.
            numbers: of the episodes.
            share: of the rows that is recorded; the rings may carry more, for other readers.

        Raises:
            OSError: the disk is full, or the folder can't be written.
        """
        self._images, self._decoder, self._numbers, self._share = images, decoder, numbers, share
        self._schema = schema_as_written(recording_schema(decoder.card_of(digest), images))
        self._file = RecordingFile(path, self._schema)
        self._waiting: dict[tuple[str, int], list[Block]] = {}
        self._rows = self._bytes = self.failed = 0

    @property
    def size(self) -> int:
        """Bytes on the disk, and of what waits to be written."""
        return self._file.size + self._bytes

    def add(self, block: Block) -> None:
        """Takes a block; raises OSError when the disk is full."""
        self._waiting.setdefault((block.digest, block.flags), []).append(block)
        self._rows += block.rows
        self._bytes += len(block.payload)
        if self._rows >= GROUP_ROWS or self._bytes >= GROUP_BYTES:
            self._write()

    def _write(self) -> None:
        waiting, self._waiting, self._rows, self._bytes = self._waiting, {}, 0, 0
        for (digest, _), blocks in waiting.items():
            readable, batch = self._read(blocks)
            if batch is None:
                continue
            table = pa.Table.from_batches([with_images(batch, self._images)])
            whole = of_share(self._decoder.with_all(as_written(table), readable, self._schema), self._share)
            if not whole.num_rows:
                continue
            place = whole.schema.names.index("episode_index")
            numbers = self._numbers.column(whole.column("episode_id").chunk(0))
            self._file.add(whole.set_column(place, "episode_index", numbers))
            self._file.cards[f"sha256:{digest}"] = self._decoder.cards[digest]
            self._file.origin[f"{ENGINE}sha256:{digest}"] = self._decoder.engines[digest]

    def _read(self, blocks: list[Block]) -> tuple[list[Block], pa.RecordBatch | None]:
        """The blocks that can be read, and their columns; counts the rows of others."""
        try:
            return blocks, self._decoder.read(blocks)
        except CarlaMlflowError as error:
            if len(blocks) == 1:
                log.error("%d rows can't be recorded: %s", blocks[0].rows, one_line(error))
                self.failed += blocks[0].rows
                return [], None
        readable = [block for block in blocks if self._read([block])[0]]
        return readable, self._decoder.read(readable) if readable else None

    @property
    def origin(self) -> Origin:
        """Where the rows come from, as the footer will say; to be added to."""
        return self._file.origin

    def complete(self) -> RecordingFile:
        """Writes what waits; the file is then to be finished. Raises OSError when the disk is full."""
        self._write()
        return self._file

    def drop(self) -> None:
        """Removes the unfinished file."""
        self._waiting.clear()
        self._file.drop()
