"""Requests that got an error → packed rows. There are few of them, or each was cheap to refuse."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from carla_mlflow.contract.answer import fallback_row
from serve.answering.forward import observations_of
from serve.record.hook import Refused
from serve.record.layout import Layout
from serve.record.packed import Packed, float64s, int32s, joined
from serve.record.ring import ACTED, OBSERVED
from serve.record.schema import OUTCOMES

if TYPE_CHECKING:
    from serve.answering.prediction import Prediction

Arrays = dict[str, NDArray[Any]]

LATE = 504


class Part(NamedTuple):
    """Rows of one request.

    Attributes:
        entry: the request.
        observations: its rows here; empty where they could not be read.
        first: the place of the first in its request.
        rows: of it here.
    """

    entry: Refused
    observations: Arrays
    first: int
    rows: int


def packed_errors(
    layout: Layout, entries: Sequence[Refused], offset_ns: int, most: int
) -> Iterator[tuple[int, int, Packed]]:
    """Packs errors of one policy: yields the flags of a block, its rows, and these.

    Those that were late have an action, the card's fallback; those that were read have observations.

    Args:
        layout: of the policy.
        entries: any number.
        offset_ns: of the clock, as in `Packed`.
        most: rows of one request in a block; larger requests become several.
    """
    groups: dict[int, list[Part]] = {}
    for entry in entries:
        observations = _observed(layout, entry)
        flags = (OBSERVED if observations is not None else 0) | (ACTED if entry.status == LATE else 0)
        groups.setdefault(flags, []).extend(_parts(entry, observations, most))
    for flags, parts in groups.items():
        for some in _groups(parts, most):
            yield flags, sum(part.rows for part in some), _packed(layout, flags, offset_ns, some)


def _parts(entry: Refused, observations: Arrays | None, most: int) -> Iterator[Part]:
    if observations is None:
        yield Part(entry, {}, 0, 1)
        return
    count = len(next(iter(observations.values())))
    for first in range(0, count, most):
        some = {name: array[first : first + most] for name, array in observations.items()}
        yield Part(entry, some, first, min(most, count - first))


def _groups(parts: list[Part], most: int) -> Iterator[list[Part]]:
    """The parts in groups of at most `most` rows."""
    group, rows = list[Part](), 0
    for part in parts:
        if group and rows + part.rows > most:
            yield group
            group, rows = [], 0
        group.append(part)
        rows += part.rows
    yield group


def _packed(layout: Layout, flags: int, offset_ns: int, parts: list[Part]) -> Packed:
    entries = [part.entry for part in parts]
    predictions = [entry.prediction for entry in entries]
    rows, arrays = sum(part.rows for part in parts), list[bytes]()
    if flags & OBSERVED:
        arrays = [joined([part.observations[field] for part in parts]) for _, field, _, _, _ in layout.observations]
    if flags & ACTED:
        arrays.append(np.tile(fallback_row(layout.card.action), (rows, 1)).tobytes())
    return Packed(
        offset_ns,
        [entry.request_id for entry in entries],
        [entry.episode_id for entry in entries],
        None,
        float64s(entry.received for entry in entries),
        float64s(entry.ended for entry in entries),
        float64s(0.0 if each is None else each.decode_s for each in predictions),
        int32s(part.rows for part in parts),
        int32s(part.first for part in parts),
        OUTCOMES.index("fallback" if flags & ACTED else "refused"),
        [entry.status for entry in entries],
        [_is_deterministic(each) for each in predictions],
        None,
        arrays,
    )


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
