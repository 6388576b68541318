"""Packed rows → the columns of a block, on the side of whoever reads the ring."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from serve.record.join import runs
from serve.record.layout import Layout
from serve.record.memory_rows import state_column
from serve.record.packed import UNPACK, Memory, Packed
from serve.record.request_rows import RequestRows
from serve.record.ring import ACTED, OBSERVED
from serve.record.schema import OUTCOMES, STATE, TIME

Columns = dict[str, pa.Array]


def unpacked(layout: Layout, flags: int, payloads: Sequence[bytes]) -> pa.RecordBatch:
    """The columns of blocks, below each other; those that they do not have are null.

    Args:
        layout: of the policy.
        flags: of the blocks.
        payloads: at least one `Packed`.

    Raises:
        msgspec.DecodeError: one is none.
        ValueError: its lengths do not fit.
    """
    batches = [
        _columns(layout, flags, packed, offsets) for packed, offsets in runs([UNPACK(each) for each in payloads])
    ]
    if len(batches) == 1:
        return batches[0]
    [batch] = pa.Table.from_batches(batches).combine_chunks().to_batches()
    return batch


def _columns(layout: Layout, flags: int, packed: Packed, offsets_ns: NDArray[np.int64]) -> pa.RecordBatch:
    if packed.outcome not in range(len(OUTCOMES)):
        raise ValueError(f"outcome {packed.outcome}")
    counts = len(packed.ids) if packed.counts is None else np.frombuffer(packed.counts, np.int32)
    rows = RequestRows(counts, None if packed.firsts is None else np.frombuffer(packed.firsts, np.int32))
    columns = _of_requests(packed, rows, offsets_ns) | _of_forwards(packed, rows) | _of_policy(layout, flags, packed)
    if packed.memory is not None:
        columns |= _of_memory(layout, packed.memory)
    schema = layout.schema(flags)
    arrays = [columns[each.name] if each.name in columns else pa.nulls(rows.count, each.type) for each in schema]
    return pa.record_batch(arrays, schema=schema)


def _of_requests(packed: Packed, rows: RequestRows, offsets_ns: NDArray[np.int64]) -> Columns:
    received, ended = np.frombuffer(packed.received), np.frombuffer(packed.ended)
    found: Columns = {
        "timestamp": pa.array(rows.timestamps(received, offsets_ns)).view(TIME),
        "request_id": pa.array(rows.spread_list(packed.ids), pa.string()),
        "row": pa.array(rows.places()),
        "outcome": _same(np.int8(packed.outcome), rows),
        "decode_ms": _milliseconds(np.frombuffer(packed.decode_s), rows),
        "total_ms": _milliseconds(ended - received, rows),
    }
    if packed.episodes is not None:
        found["episode_id"] = pa.array(rows.spread_list(packed.episodes), pa.string())
    if packed.frames is not None:
        found["frame_index"] = pa.array(rows.spread_list(packed.frames), pa.int64())
    if packed.statuses is None:
        found["status"] = _same(np.int16(200), rows)
    else:
        found["status"] = pa.array(rows.spread(np.array(packed.statuses, np.int16)))
    if packed.deterministic is not None:
        found["deterministic"] = pa.array(rows.spread_list(packed.deterministic), pa.bool_())
    return found


def _of_forwards(packed: Packed, rows: RequestRows) -> Columns:
    """The columns that are the same for all rows of a forward."""
    forwards = packed.forwards
    if forwards is None:
        return {}
    counts = np.frombuffer(forwards.counts, np.int32)
    waited = np.repeat(np.frombuffer(forwards.began), counts) - rows.spread(np.frombuffer(packed.received))
    inference_ms = np.frombuffer(forwards.inference_ms).astype(np.float32)
    found: Columns = {
        "queue_ms": pa.array((waited * 1e3).astype(np.float32)),
        "inference_ms": pa.array(np.repeat(inference_ms, counts)),
    }
    if forwards.seeds is None:
        return found | {"deterministic": pa.array(np.ones(rows.count, np.bool_))}
    seeds = RequestRows(counts).spread_list(forwards.seeds)
    deterministic = pa.array([seed is None for seed in seeds], pa.bool_())
    return found | {"deterministic": deterministic, "seed": pa.array(seeds, pa.int64())}


def _of_policy(layout: Layout, flags: int, packed: Packed) -> Columns:
    """The columns of observation and action."""
    found, arrays = Columns(), iter(packed.arrays)
    if flags & OBSERVED:
        for name, _, _, dtype, width in layout.observations:
            found[name] = _column(next(arrays), dtype, width)
    if flags & ACTED:
        found["action"] = _column(next(arrays), "float32", layout.action_width)
        if packed.forwards is not None:
            found["action.raw"] = _column(next(arrays), "float32", layout.raw_width)
    return found


def _of_memory(layout: Layout, memory: Memory) -> Columns:
    reset, given = np.frombuffer(memory.reset, np.bool_), np.frombuffer(memory.given, np.bool_)
    steps = np.frombuffer(memory.steps, np.uint32).astype(np.int64)
    found: Columns = {"frame_index": pa.array(steps), "reset": pa.array(reset)}
    for name, state in zip(layout.states, memory.states, strict=True):
        found[STATE + name] = state_column(np.frombuffer(state, np.float32), given)
    return found


def _column(data: bytes, dtype: str, width: int | None) -> pa.Array:
    """Lists of `width` numbers, or numbers where that is None."""
    kind = pa.from_numpy_dtype(np.dtype(dtype))
    values = pa.Array.from_buffers(kind, len(data) // np.dtype(dtype).itemsize, [None, pa.py_buffer(data)])
    return values if width is None else pa.FixedSizeListArray.from_arrays(values, width)


def _same(value: Any, rows: RequestRows) -> pa.Array:
    return pa.array(np.full(rows.count, value))


def _milliseconds(seconds: NDArray[np.float64], rows: RequestRows) -> pa.Array:
    """A column of durations; `seconds` has one for each request."""
    return pa.array(rows.spread((seconds * 1e3).astype(np.float32)))
