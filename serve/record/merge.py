"""Merges the files of an hour that is over into one, piece by piece, so that the rings never wait for long."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from carla_mlflow.escaping import one_line
from serve.record.file_info import RecordedFile, RecordingError, file_hash, read_file_info
from serve.record.node_folder import NodeFolder
from serve.record.recording_file import RecordingFile

MAX_BYTES = 1 << 30
"""About the most bytes of one merged file."""
GROUP_BYTES = 16 << 20
"""About the bytes in memory of one of its row groups."""
PIECE_BYTES = 4 << 20
"""About the bytes in memory that are read between two looks at the rings."""

log = logging.getLogger("serve.record")


def merging(node: NodeFolder, hour: str) -> Iterator[None]:
    """Merges the young files of hours before `hour` (`YYYY-MM-DD/HH`); each step of the iterator is a piece.

    A merge that fails leaves the files as they are. A file that is damaged is left alone, so that it stays the one that
    the chain names.
    """
    for before, files in node.files_of_hours_before(hour).items():
        intact = []
        for number, path in files:
            known = node.head.files.get(number)
            if known is None:  # deleted for its age meanwhile
                continue
            if _is_intact(path, known[1]):
                intact.append(path)
            else:
                log.error("%s: is damaged, and not merged", path)
            yield
        for group in _groups(intact):
            yield from _merge(node, before, group)


def _is_intact(path: Path, sha256: str) -> bool:
    try:
        return file_hash(path) == sha256
    except OSError:
        return False


def _groups(paths: list[Path]) -> list[list[RecordedFile]]:
    """Files that can become one: of one contract, kind and origin, and not too large together."""
    found: dict[tuple[Any, ...], list[list[RecordedFile]]] = {}
    for path in paths:
        try:
            file = read_file_info(path)
        except RecordingError as error:
            log.warning("is not merged: %s", one_line(error))
            continue
        groups = found.setdefault((file.info.contract, file.info.images, *sorted(file.origin.items())), [[]])
        if groups[-1] and sum(each.path.stat().st_size for each in groups[-1]) + path.stat().st_size > MAX_BYTES:
            groups.append([])
        groups[-1].append(file)
    return [group for groups in found.values() for group in groups]


def _merge(node: NodeFolder, hour: str, files: list[RecordedFile]) -> Iterator[None]:
    day, name = hour.split("/")
    merged, group, read = None, list[pa.Table](), 0
    try:
        merged = RecordingFile(node.new_file(day, name), pq.read_schema(files[0].path).remove_metadata())
        for file in files:
            merged.cards |= file.cards
            merged.origin |= file.origin
            with pq.ParquetFile(file.path, pre_buffer=False) as source:  # nor by threads: they have their own priority
                for index in range(source.num_row_groups):
                    group.append(source.read_row_group(index, use_threads=False).replace_schema_metadata(None))
                    read += group[-1].nbytes
                    if sum(table.nbytes for table in group) >= GROUP_BYTES:
                        merged.add(pa.concat_tables(group).combine_chunks())
                        group.clear()
                    if read >= PIECE_BYTES:
                        read = 0
                        yield
        if group:
            merged.add(pa.concat_tables(group).combine_chunks())
        info = files[0].info
        numbers = [file.info.number for file in files]
        node.place(merged, name, info.contract, info.images, node.head.cursors, replaces=numbers)
    except (OSError, pa.ArrowException, ValueError, KeyError) as error:  # the last: deleted for its age meanwhile
        log.warning("the recordings of %s are not merged: %s", hour, one_line(error))
        if merged is not None:
            merged.drop()
    except GeneratorExit:
        if merged is not None:
            merged.drop()
        raise
