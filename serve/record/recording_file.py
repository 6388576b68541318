"""One Parquet file while it is written: beside its place until it is whole, hashed as its bytes go out."""

from __future__ import annotations

import hashlib
import io
import os
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from serve.record.file_info import FileInfo, to_metadata
from serve.record.machine import Origin
from serve.record.schema import Images

DICTIONARIES = ("version", "digest", "outcome", "episode_id", "episode_index", "status", "worker", "seed", "row")
"""Columns whose values come again and again."""


class HashedFile(io.RawIOBase):
    """A file that is written once from its beginning to its end, and its hash."""

    def __init__(self, path: Path) -> None:
        """Creates the file, which only its owner may read."""
        super().__init__()
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        self._hash, self.size = hashlib.sha256(), 0

    def writable(self) -> bool:
        return True

    def tell(self) -> int:
        return self.size

    def write(self, data: Any) -> int:
        view = memoryview(data).cast("B")
        if self.closed:  # dropped: pyarrow's writer still writes a footer when it is freed
            return len(view)
        written = 0
        while written < len(view):
            written += os.write(self._file, view[written:])
        self._hash.update(view)
        self.size += written
        return written

    def close(self) -> None:
        if not self.closed:
            os.close(self._file)
        super().close()

    @property
    def sha256(self) -> str:
        """Of all that was written, 64 hex digits."""
        return self._hash.hexdigest()


class RecordingFile:
    """A file that takes the rows of one contract.

    Attributes:
        rows: written.
        cards: digest (`sha256:…`) → bytes of model_card.yaml, of the versions in it.
        origin: where its rows come from; see `serve/record/machine.py`.
    """

    def __init__(self, path: Path, schema: pa.Schema) -> None:
        """Creates the file.

        Args:
            path: of the unfinished file.
            schema: of the rows as they are written.

        Raises:
            OSError: the disk is full, or the folder can't be written.
        """
        self.path = path
        self.rows = 0
        self.cards: dict[str, bytes] = {}
        self.origin: Origin = {}
        self._first, self._last = 2**63 - 1, -(2**63)
        self._file = HashedFile(path)
        floats = [name for name, kind in _leaves(schema) if kind == pa.float32()]
        self._writer = pq.ParquetWriter(
            self._file,
            schema,
            compression="zstd",
            compression_level=1,
            use_dictionary=[name for name in schema.names if name in DICTIONARIES],
            use_byte_stream_split=floats,
            write_statistics=["timestamp", "episode_id"],
        )

    @property
    def size(self) -> int:
        """Bytes on the disk."""
        return self._file.size

    def add(self, table: pa.Table) -> None:
        """Writes rows as one row group; raises OSError when the disk is full."""
        times = pc.min_max(table["timestamp"].cast(pa.int64()))
        self._first, self._last = min(self._first, times["min"].as_py()), max(self._last, times["max"].as_py())
        self.rows += table.num_rows
        self._writer.write_table(table, row_group_size=max(1, table.num_rows))

    def finish(
        self,
        number: int,
        previous: str,
        contract: str,
        images: Images,
        cursors: dict[str, int],
        replaces: dict[int, str] | None = None,
    ) -> str:
        """Writes the rest and the footer; returns the file's sha256. The arguments are those of FileInfo.

        Raises:
            OSError: the disk is full.
        """
        info = FileInfo(number, previous, contract, images, self._first, self._last, cursors, replaces or {})
        self._writer.add_key_value_metadata(to_metadata(info, self.cards, self.origin))
        self._writer.close()
        self._file.close()
        return self._file.sha256

    def drop(self) -> None:
        """Removes the unfinished file."""
        self._file.close()
        self.path.unlink(missing_ok=True)


def _leaves(schema: pa.Schema) -> list[tuple[str, pa.DataType]]:
    """The Parquet columns: path and type of each."""
    found = []
    for field in schema:
        kind = field.type
        nested = pa.types.is_list(kind) or pa.types.is_fixed_size_list(kind)
        found.append((f"{field.name}.list.element" if nested else field.name, kind.value_type if nested else kind))
    return found
