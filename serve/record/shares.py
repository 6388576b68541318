"""A share of recorded rows: the rings carry the largest that anybody reads, and each takes its own of it."""

from __future__ import annotations

import pyarrow as pa

from serve.record.schema import in_share


def of_share(batch: pa.RecordBatch, share: float) -> pa.RecordBatch:
    """The rows of a batch that belong to a share of all, from 0 to 1; see `in_share`."""
    if share >= 1.0:
        return batch
    names = zip(batch.column("episode_id").to_pylist(), batch.column("request_id").to_pylist(), strict=True)
    return batch.filter(pa.array([in_share(*name, share) for name in names], pa.bool_()))
