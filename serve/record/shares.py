"""A share of recorded rows: the rings carry the largest that anybody reads, and each takes its own of it."""

from __future__ import annotations

from typing import TypeVar

import pyarrow as pa

from serve.record.schema import in_share

Rows = TypeVar("Rows", pa.RecordBatch, pa.Table)


def of_share(rows: Rows, share: float) -> Rows:
    """The rows that belong to a share of all, from 0 to 1; see `in_share`. The columns of a table stay in one piece."""
    if share >= 1.0:
        return rows
    names = zip(rows.column("episode_id").to_pylist(), rows.column("request_id").to_pylist(), strict=True)
    found: Rows = rows.filter(pa.array([in_share(*name, share) for name in names], pa.bool_()))
    return found.combine_chunks() if isinstance(found, pa.Table) else found
