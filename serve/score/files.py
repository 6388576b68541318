"""The Parquet files of scoring: what is read of them, and what is written."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from carla_mlflow.contract.control import CONTROL_NAMES
from carla_mlflow.errors import RefusedError


def opened(source: Path, columns: Iterable[str]) -> pq.ParquetFile:
    """A file that has the columns; raises RefusedError when it is no Parquet, or lacks one."""
    try:
        file = pq.ParquetFile(source)
    except pa.ArrowInvalid as error:
        raise RefusedError(f"{source}: can't be read as Parquet") from error
    missing = [name for name in dict.fromkeys(columns) if name not in file.schema_arrow.names]
    if missing:
        there = ", ".join(file.schema_arrow.names)
        raise RefusedError(f"{source}: has no column {', '.join(missing)}; there are {there}")
    return file


def row_groups(file: pq.ParquetFile, rows: int) -> Iterator[tuple[list[int], int]]:
    """Row groups that lie side by side, of at least so many rows together but for the last, each with its first row.

    A file of no rows has one entry, without groups.
    """
    taken, first, after = list[int](), 0, 0
    for index in range(file.num_row_groups):
        taken.append(index)
        after += file.metadata.row_group(index).num_rows
        if after - first >= rows:
            yield taken, first
            taken, first = [], after
    if taken or not file.num_row_groups:
        yield taken, first


def result_schema(file: pq.ParquetFile, kept: Iterable[str], version: str, digest: str) -> pa.Schema:
    """Of what is written: the kept columns as they are, throttle, brake and steer; and by which policy."""
    fields = [file.schema_arrow.field(name) for name in kept]
    fields += [pa.field(name, pa.float32()) for name in CONTROL_NAMES]
    return pa.schema(fields, {"policy.version": version, "policy.digest": digest})
