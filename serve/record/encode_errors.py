"""Requests that got an error → the record batches of blocks. There are few of them, or each was cheap to refuse."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from carla_mlflow.contract.answer import fallback_row
from serve.answering.forward import observations_of
from serve.record.encode import wall_clock_offset_ns
from serve.record.hook import Refused
from serve.record.layout import Layout
from serve.record.request_rows import RequestRows, stacked
from serve.record.ring import ACTED, OBSERVED
from serve.record.schema import OUTCOMES

if TYPE_CHECKING:
    from serve.answering.prediction import Prediction

Arrays = dict[str, NDArray[Any]]

LATE = 504


def encoded_errors(layout: Layout, entries: Sequence[Refused]) -> Iterator[tuple[int, pa.RecordBatch]]:
    """Encodes errors of one policy: yields the flags of a block, and the batch.

    Those that were late have an action, the card's fallback; those that were read have observations.

    Args:
        layout: of the policy.
        entries: any number.
    """
    groups: dict[int, list[tuple[Refused, Arrays]]] = {}
    for entry in entries:
        observations = _observed(layout, entry)
        flags = (OBSERVED if observations is not None else 0) | (ACTED if entry.status == LATE else 0)
        groups.setdefault(flags, []).append((entry, observations or {}))
    for flags, group in groups.items():
        yield flags, _encoded(layout, flags, [entry for entry, _ in group], [found for _, found in group])


def _encoded(layout: Layout, flags: int, entries: list[Refused], observations: list[Arrays]) -> pa.RecordBatch:
    counts = [len(next(iter(each.values()))) for each in observations] if flags & OBSERVED else None
    rows = RequestRows(len(entries), counts)
    received = np.array([entry.received for entry in entries])
    predictions = [entry.prediction for entry in entries]
    columns: dict[str, Any] = {
        "timestamp": rows.timestamps(received, wall_clock_offset_ns())[1],
        "request_id": rows.column([entry.request_id for entry in entries], pa.string()),
        "row": pa.array(rows.places()),
        "episode_id": rows.column([entry.episode_id for entry in entries], pa.string()),
        "deterministic": rows.column([_is_deterministic(each) for each in predictions], pa.bool_()),
        "outcome": rows.constant(OUTCOMES.index("fallback" if flags & ACTED else "refused"), "int8"),
        "status": rows.column([entry.status for entry in entries], pa.int16()),
        "decode_ms": rows.milliseconds(np.array([0.0 if each is None else each.decode_s for each in predictions])),
        "total_ms": rows.milliseconds(np.array([entry.ended for entry in entries]) - received),
    }
    if flags & OBSERVED:
        for name, field, _, _, width in layout.observations:
            columns[name] = stacked([each[field] for each in observations], width)
    if flags & ACTED:
        columns["action"] = stacked([np.tile(fallback_row(layout.card.action), (rows.count, 1))], layout.action_width)
    schema = layout.schema(flags)
    arrays = [columns[each.name] if each.name in columns else pa.nulls(rows.count, each.type) for each in schema]
    return pa.record_batch(arrays, schema=schema)


def _observed(layout: Layout, entry: Refused) -> Arrays | None:
    """The observations of a request that got an error; None where it could not be read as far as that."""
    if entry.prediction is None or entry.prediction.request is None:
        return None
    try:
        found = observations_of(entry.serving, entry.prediction.request)
    except Exception:  # whatever made the request fail
        return None
    columns = layout.observations
    fits = all(found[each.field].shape[1:] == each.shape and found[each.field].dtype == each.dtype for each in columns)
    return found if fits and columns and len(found[columns[0].field]) else None


def _is_deterministic(prediction: Prediction | None) -> bool:
    return prediction is None or prediction.request is None or prediction.request.deterministic
