"""The Parquet files of scoring: opening the input, and the schema of the output."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from carla_mlflow.contract.answer import AnswerColumn
from carla_mlflow.errors import RefusedError


def opened(source: Path, columns: Iterable[str]) -> pq.ParquetFile:
    """Opens a Parquet file; raises RefusedError when it is not Parquet, or lacks one of the columns."""
    try:
        file = pq.ParquetFile(source)
    except pa.ArrowInvalid as error:
        raise RefusedError(f"{source}: can't be read as Parquet") from error
    missing = [name for name in dict.fromkeys(columns) if name not in file.schema_arrow.names]
    if missing:
        there = ", ".join(file.schema_arrow.names)
        raise RefusedError(f"{source}: has no column {', '.join(missing)}; there are {there}")
    return file


def columns_there(file: pq.ParquetFile, columns: Iterable[str], optional: Iterable[str]) -> list[str]:
    """The columns to read: all of `columns`, and of `optional` those that the file has."""
    return [*columns, *(name for name in optional if name in file.schema_arrow.names)]


def row_groups(file: pq.ParquetFile, rows: int) -> Iterator[tuple[list[int], int]]:
    """Yields lists of consecutive row groups, each with its first row; each list but the last has at least `rows` rows.

    A file without row groups yields one empty list.
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


def result_schema(
    file: pq.ParquetFile,
    kept: Iterable[str],
    columns: Iterable[AnswerColumn],
    texts: Iterable[str],
    version: str,
    digest: str,
) -> pa.Schema:
    """The output's schema: the kept columns, the policy's answers, and texts; its metadata names the policy."""
    fields = [file.schema_arrow.field(name) for name in kept]
    fields += [field for column in columns for field in _fields(column)]
    fields += [pa.field(name, pa.string()) for name in texts]
    return pa.schema(fields, {"policy.version": version, "policy.digest": digest})


def _fields(column: AnswerColumn) -> list[pa.Field]:
    """One number, or of a choice its label, if it has one, and its index."""
    if not column.choices:
        return [pa.field(column.name, pa.float32())]
    label = [pa.field(column.name, pa.string())] if column.labels else []
    return [*label, pa.field(column.table_names[-1], pa.int64())]
