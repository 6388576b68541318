"""A trace of latencies: one row a request, in order; as a Parquet file `latency_ms`, and `seed` where it is known."""

from __future__ import annotations

import hashlib
import math
from array import array
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import DrivingError

if TYPE_CHECKING:
    import pyarrow as pa

UNKNOWN = -1
"""The seed of rows whose episode is not known."""
MAX_ROWS = 10_000_000
MAX_MS = 60_000.0
"""The longest latency, milliseconds."""


class Trace:
    """Latencies of requests.

    Attributes:
        us: of each request, whole microseconds.
        seeds: of the episode that each belongs to; UNKNOWN where it is not known.
    """

    def __init__(self, us: list[int] | None = None, seeds: list[int] | None = None) -> None:
        self.us = array("q", us or [])
        self.seeds = array("q", seeds or [UNKNOWN] * len(self.us))

    def add(self, seed: int, us: int) -> None:
        """Adds a request."""
        self.us.append(us)
        self.seeds.append(seed)

    def firsts(self) -> dict[int, int]:
        """Seed → its first row."""
        import numpy as np  # not above: commands read their flags by this module, and --help has to be quick

        seeds, rows = np.unique(np.asarray(self.seeds), return_index=True)
        return {seed: row for seed, row in zip(seeds.tolist(), rows.tolist(), strict=True) if seed != UNKNOWN}

    @property
    def name(self) -> str:
        """`trace:` and 16 hex digits, equal for equal rows however the file was written."""
        import numpy as np

        digest = hashlib.sha256()
        for column in (self.us, self.seeds):
            digest.update(np.asarray(column, "<i8").tobytes())
        return f"trace:{digest.hexdigest()[:16]}"

    def figures(self) -> dict[str, float]:
        """The distribution: p50_ms, p90_ms, p99_ms and max_ms; empty where nothing was asked."""
        if not self.us:
            return {}
        import numpy as np

        ms = np.asarray(self.us) / 1e3
        percents = {f"p{percent}_ms": float(np.percentile(ms, percent)) for percent in (50, 90, 99)}
        return {name: round(value, 3) for name, value in {**percents, "max_ms": float(ms.max())}.items()}

    def write(self, path: Path) -> None:
        """Writes the trace as a Parquet file."""
        import numpy as np
        import pyarrow as pa
        import pyarrow.parquet as pq

        columns = {"seed": np.asarray(self.seeds), "latency_ms": np.asarray(self.us) / 1e3}
        pq.write_table(pa.table(columns), path)


def check_target(path: Path) -> None:
    """Raises before a drive what `Trace.write` would raise after it: no such folder, or pyarrow is not installed.

    Raises:
        DrivingError: there is no such folder.
    """
    import pyarrow  # noqa: F401

    if not path.absolute().parent.is_dir():
        raise DrivingError(f"{path}: there is no such folder to write to")


def read_trace(path: Path) -> Trace:
    """Reads a trace.

    Args:
        path: a Parquet file with the column `latency_ms`, numbers from 0 to MAX_MS, and perhaps `seed`, whole numbers.

    Raises:
        DrivingError: the file is no such trace; says why.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            if "latency_ms" not in file.schema_arrow.names:
                there = ", ".join(file.schema_arrow.names)
                raise DrivingError(f"{path}: has no column latency_ms, one row a request; there are {there}")
            if not 0 < file.metadata.num_rows <= MAX_ROWS:
                rows = file.metadata.num_rows
                raise DrivingError(f"{path}: has {rows:,} rows; expected 1 to {MAX_ROWS:,}, one a request")
            table = file.read([name for name in ("latency_ms", "seed") if name in file.schema_arrow.names])
    except FileNotFoundError as error:
        raise DrivingError(f"{path}: there is no such file; expected a time such as 35ms, or a trace") from error
    except pa.ArrowException as error:
        raise DrivingError(f"{path}: can't be read as Parquet") from error
    us = [*_microseconds(path, table.column("latency_ms"))]
    return Trace(us, _seeds(path, table.column("seed")) if "seed" in table.column_names else None)


def _microseconds(path: Path, column: pa.ChunkedArray) -> Iterator[int]:
    for row, value in enumerate(column.to_pylist()):
        is_number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
        if not is_number or not 0 <= value <= MAX_MS:
            expected = f"expected milliseconds from 0 to {MAX_MS:g}"
            raise DrivingError(f"{path}: row {row}: latency_ms is {value!a:.40}; {expected}")
        yield round(value * 1e3)


def _seeds(path: Path, column: pa.ChunkedArray) -> list[int]:
    seeds = [UNKNOWN if value is None else value for value in column.to_pylist()]
    wrong = [row for row, seed in enumerate(seeds) if type(seed) is not int or not UNKNOWN <= seed < 1 << 63]
    if wrong:
        raise DrivingError(f"{path}: row {wrong[0]}: seed is {seeds[wrong[0]]!a:.40}; expected a whole number from 0")
    return seeds
