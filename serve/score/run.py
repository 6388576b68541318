"""Scores a long file part by part, each written whole or not at all, so that a killed run continues where it was."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from carla_mlflow.contract.answer import answer_columns, answer_table
from carla_mlflow.errors import EpisodeError, SpecError
from carla_mlflow.inference.engine import Engine
from serve.cores import usable_cores
from serve.score.columns import columns_read, observations_in
from serve.score.files import columns_there, opened, result_schema
from serve.score.states import StateColumn

PART_BYTES, PART_ROWS = 64 * 1024 * 1024, 65_536
"""Most bytes and rows of a part's observations, which have to fit in memory a few times over."""
PIECE_ROWS = 2048
"""Rows in one forward of a thread."""
_INDEX = re.compile(r"observations\[(\d+)\]")


@dataclass(frozen=True)
class About:
    """What identifies a run: parts are reused only if all of this is the same."""

    digest: str
    version: str
    source: str
    size: int
    changed: int
    kept: tuple[str, ...]
    skip_invalid: bool
    part_rows: int
    key_id: str


class Scorer:
    """Scores the rows of record batches. Safe to call from several threads.

    Attributes:
        answered: the columns of the policy's answers.
    """

    def __init__(self, engine: Engine, kept: tuple[str, ...] = (), skip_invalid: bool = False) -> None:
        """`kept` are columns to copy; `skip_invalid`: a row that does not fit gets nulls rather than an error."""
        self._engine, self._kept, self._skip_invalid = engine, kept, skip_invalid
        self._states = StateColumn(engine)
        self.answered = answer_columns(engine.card.action)

    @property
    def texts(self) -> tuple[str, ...]:
        """The columns of text that are written besides: `state` of a policy with memory."""
        return self._states.names

    @property
    def columns(self) -> list[str]:
        """The columns of the input that are required."""
        return columns_read(self._kept, self._engine.specs)

    def columns_of(self, file: pq.ParquetFile) -> list[str]:
        """The columns that are read: those required and, for a policy with memory, `state` if the file has it."""
        return columns_there(file, self.columns, self._states.names)

    def score(self, batch: pa.RecordBatch, first: int = 0) -> pa.RecordBatch:
        """Returns the kept columns, and the answer to every row, such as throttle, brake and steer.

        Args:
            batch: some rows of a file.
            first: index of the batch's first row in the file.

        Raises:
            SpecError: a row does not fit; names it by its index in the file.
            EpisodeError: its state was made by another version or with another key; names it likewise.
        """
        try:
            control, states = self._act(batch)
        except SpecError as error:
            raise SpecError(_in_file(error.field, first), error.problem) from error
        except EpisodeError as error:
            raise EpisodeError(error.code, _in_file(error.field, first), error.problem) from error
        columns = {name: batch.column(name) for name in self._kept}
        skipped = np.isnan(control[:, 0])
        answers = answer_table(self.answered, np.where(skipped[:, None], np.float32(0), control))
        columns |= {name: pa.array(values, mask=skipped) for name, values in answers.items()}
        columns |= {name: pa.array(states, pa.string(), mask=skipped) for name in self._states.names}
        return pa.RecordBatch.from_pydict(columns)

    def _act(self, batch: pa.RecordBatch) -> tuple[NDArray[np.float32], list[str]]:
        try:
            return self._states.act(observations_in(self._engine.specs, batch), batch)
        except (SpecError, EpisodeError) as error:
            if not self._skip_invalid or not _INDEX.match(error.field):
                raise
            if len(batch) == 1:
                return np.full((1, len(self.answered)), np.nan, dtype=np.float32), [""] * len(self._states.names)
            half = len(batch) // 2
            (first, before), (second, after) = self._act(batch.slice(0, half)), self._act(batch.slice(half))
            return np.concatenate([first, second]), before + after


def _in_file(field: str, first: int) -> str:
    """A field of a batch's row, named by the row's index in the file."""
    return _INDEX.sub(lambda found: f"row {int(found[1]) + first}: ", field).replace(": .", ": ")


def about(engine: Engine, source: Path, kept: tuple[str, ...], skip_invalid: bool) -> About:
    """Returns what identifies the run that scores a file by a policy."""
    row_bytes = sum(int(np.prod(spec.shape)) * np.dtype(spec.dtype).itemsize for spec in engine.specs)
    found, rows = source.stat(), max(1, min(PART_ROWS, PART_BYTES // row_bytes))
    where, version, key_id = str(source.resolve()), engine.card.version, StateColumn(engine).key_id
    size, changed = found.st_size, found.st_mtime_ns
    return About(engine.digest, version, where, size, changed, kept, skip_invalid, rows, key_id)


def count_rows(source: Path) -> int:
    """Returns the number of rows in a Parquet file's metadata; raises RefusedError when it is not Parquet."""
    with opened(source, ()) as file:
        return int(file.metadata.num_rows)


def score_file(scorer: Scorer, of: About, output: Path, report: Callable[[int, bool], None]) -> int:
    """Scores a file, and renames the result into place; returns its number of rows.

    Args:
        scorer: the policy.
        of: the run, which names the file.
        output: the file to write; its parts are kept beside it until the end.
        report: called with the number of rows of each part that is done, and whether an earlier run did it.

    Raises:
        SpecError: a row does not fit; names it by its index in the file.
        EpisodeError: a row's state was made by another version or with another key.
        RefusedError: the file lacks a column.
    """
    parts = output.with_name(f".{output.name}.parts")
    _begin(parts, of)
    rows, files = 0, list[Path]()
    with opened(Path(of.source), scorer.columns) as file, ThreadPoolExecutor(usable_cores()) as pool:
        schema = result_schema(file, of.kept, scorer.answered, scorer.texts, of.version, of.digest)
        for number, batch in enumerate(file.iter_batches(of.part_rows, columns=scorer.columns_of(file))):
            part = parts / f"{number:08}.parquet"
            known = part.exists()
            if not known:
                _write(part, _scored(scorer, batch, rows, pool))
            rows += len(batch)
            files.append(part)
            report(len(batch), known)
    _join(files, output, schema)
    shutil.rmtree(parts)
    return rows


def _begin(parts: Path, of: About) -> None:
    """Keeps the parts of an earlier run with the same About, and removes others."""
    note, text = parts / "about.json", msgspec.json.encode(asdict(of))
    if note.exists() and note.read_bytes() == text:
        return
    shutil.rmtree(parts, ignore_errors=True)
    parts.mkdir(parents=True)
    note.write_bytes(text)


def _scored(scorer: Scorer, batch: pa.RecordBatch, before: int, pool: ThreadPoolExecutor) -> pa.Table:
    starts = range(0, len(batch), PIECE_ROWS)
    parts = pool.map(lambda start: scorer.score(batch.slice(start, PIECE_ROWS), before + start), starts)
    return pa.Table.from_batches(list(parts))


def _write(path: Path, table: pa.Table) -> None:
    beside = path.with_suffix(".partial")
    pq.write_table(table, beside)
    os.replace(beside, path)


def _join(files: list[Path], output: Path, schema: pa.Schema) -> None:
    beside = output.with_name(f".{output.name}.partial")
    with pq.ParquetWriter(beside, schema) as writer:
        for file in files:
            writer.write_table(pq.read_table(file).cast(schema))
    os.replace(beside, output)
