"""Scoring a long file: part by part, each written whole, so that a killed run goes on where it was."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from carla_mlflow.control import CONTROL_NAMES
from carla_mlflow.engine import Engine
from carla_mlflow.errors import RefusedError, SpecError
from serve.score.columns import observations_in

PART_BYTES, PART_ROWS = 64 * 1024 * 1024, 65_536
"""Of the observations of one part: what has to fit in memory a few times over."""
PIECE_ROWS = 2048
"""Rows that a thread decides on at once."""
_INDEX = re.compile(r"observations\[(\d+)\]")


@dataclass(frozen=True)
class About:
    """What a run is of; parts of another run are of no use to it."""

    digest: str
    version: str
    source: str
    size: int
    changed: int
    kept: tuple[str, ...]
    skip_invalid: bool
    part_rows: int


class Scorer:
    """Decides on the rows of record batches. Safe to call from several threads."""

    def __init__(self, engine: Engine, kept: tuple[str, ...] = (), skip_invalid: bool = False) -> None:
        """Args: the policy; columns to copy; whether a row that does not fit gets nulls rather than an error."""
        self._engine, self._kept, self._skip_invalid = engine, kept, skip_invalid

    @property
    def columns(self) -> list[str]:
        """What is read of the input."""
        return [*dict.fromkeys((*self._kept, *self._engine.specs.names))]

    def score(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """The kept columns, and throttle, brake and steer of every row.

        Raises:
            SpecError: a row does not fit; names it, counted from the batch's first.
        """
        control = self._control(batch)
        columns = {name: batch.column(name) for name in self._kept}
        for index, name in enumerate(CONTROL_NAMES):
            values = control[:, index]
            columns[name] = pa.array(values, mask=np.isnan(values))
        return pa.RecordBatch.from_pydict(columns)

    def _control(self, batch: pa.RecordBatch) -> NDArray[np.float32]:
        try:
            observations = observations_in(self._engine.specs, batch)
            return self._engine.act(observations).control
        except SpecError as error:
            if not self._skip_invalid or not _INDEX.match(error.field):
                raise
            if len(batch) == 1:
                return np.full((1, len(CONTROL_NAMES)), np.nan, dtype=np.float32)
            half = len(batch) // 2
            return np.concatenate([self._control(batch.slice(0, half)), self._control(batch.slice(half))])


def about(engine: Engine, source: Path, kept: tuple[str, ...], skip_invalid: bool) -> About:
    """What scoring a file by a policy is."""
    row_bytes = sum(int(np.prod(spec.shape)) * np.dtype(spec.dtype).itemsize for spec in engine.specs)
    found, rows = source.stat(), max(1, min(PART_ROWS, PART_BYTES // row_bytes))
    where = str(source.resolve())
    return About(engine.digest, engine.card.version, where, found.st_size, found.st_mtime_ns, kept, skip_invalid, rows)


def count_rows(source: Path) -> int:
    """How many rows a Parquet file says it has; raises RefusedError when it is none."""
    try:
        return int(pq.read_metadata(source).num_rows)
    except pa.ArrowInvalid as error:
        raise RefusedError(f"{source}: can't be read as Parquet") from error


def score_file(scorer: Scorer, of: About, output: Path, told: Callable[[int, bool], None]) -> int:
    """Scores a file, and renames the result into place; returns its rows.

    Args:
        scorer: the policy.
        of: the file.
        output: what to write; its parts lie beside it until the end.
        told: called with the rows of each part that is done, and whether an earlier run did it.

    Raises:
        SpecError: a row does not fit; names it, counted from the file's first.
        RefusedError: the file lacks a column.
    """
    parts = output.with_name(f".{output.name}.parts")
    _begin(parts, of)
    rows, files = 0, list[Path]()
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for number, batch in enumerate(_batches(Path(of.source), scorer.columns, of.part_rows)):
            part = parts / f"{number:08}.parquet"
            known = part.exists()
            if not known:
                _write(part, _scored(scorer, batch, rows, pool))
            rows += len(batch)
            files.append(part)
            told(len(batch), known)
    _join(files, output, of)
    shutil.rmtree(parts)
    return rows


def _begin(parts: Path, of: About) -> None:
    """Keeps the parts of an earlier run that was of the same, and no others."""
    note, text = parts / "about.json", msgspec.json.encode(asdict(of))
    if note.exists() and note.read_bytes() == text:
        return
    shutil.rmtree(parts, ignore_errors=True)
    parts.mkdir(parents=True)
    note.write_bytes(text)


def _batches(source: Path, columns: list[str], rows: int) -> Iterator[pa.RecordBatch]:
    with pq.ParquetFile(source) as file:
        missing = [name for name in columns if name not in file.schema_arrow.names]
        if missing:
            there = ", ".join(file.schema_arrow.names)
            raise RefusedError(f"{source}: has no column {', '.join(missing)}; there are {there}")
        yield from file.iter_batches(rows, columns=columns)


def _scored(scorer: Scorer, batch: pa.RecordBatch, before: int, pool: ThreadPoolExecutor) -> pa.Table:
    pieces = [batch.slice(start, PIECE_ROWS) for start in range(0, len(batch), PIECE_ROWS)]

    def one(index: int) -> pa.RecordBatch:
        try:
            return scorer.score(pieces[index])
        except SpecError as error:
            first = before + index * PIECE_ROWS
            field = _INDEX.sub(lambda found: f"row {int(found[1]) + first}: ", error.field).replace(": .", ": ")
            raise SpecError(field, error.problem) from error

    return pa.Table.from_batches(list(pool.map(one, range(len(pieces)))))


def _write(path: Path, table: pa.Table) -> None:
    beside = path.with_suffix(".partial")
    pq.write_table(table, beside)
    os.replace(beside, path)


def _join(files: list[Path], output: Path, of: About) -> None:
    beside = output.with_name(f".{output.name}.partial")
    schema = pq.read_schema(files[0]) if files else pa.schema([(name, pa.float32()) for name in CONTROL_NAMES])
    told: dict[str | bytes, Any] = {"policy.version": of.version, "policy.digest": of.digest}
    with pq.ParquetWriter(beside, schema.with_metadata(told)) as writer:
        for file in files:
            writer.write_table(pq.read_table(file).replace_schema_metadata(told))
    os.replace(beside, output)
