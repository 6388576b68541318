"""Rows of a recording as arrays: what a policy saw, how it was asked, and what it answered."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, overload

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from carla_mlflow.contract.array_spec import ArraySpec
from carla_mlflow.contract.card import Card
from carla_mlflow.errors import RefusedError
from serve.replay.moments import Moments

Array = NDArray[Any]
Float32 = NDArray[np.float32]

POLICY, FALLBACK, REFUSED = "policy", "fallback", "refused"
"""The outcomes of a request."""
NO_FRAME = -1
OBSERVATION, STATE = "observation.", "state."


class Texts(Sequence[Any]):
    """A column of texts, of which few are looked at: each is decoded when it is asked for."""

    def __init__(self, column: pa.Array) -> None:
        self._column = column

    def __len__(self) -> int:
        return len(self._column)

    @overload
    def __getitem__(self, place: int) -> Any: ...
    @overload
    def __getitem__(self, place: slice) -> Texts: ...
    def __getitem__(self, place: int | slice) -> Any:
        return Texts(self._column[place]) if isinstance(place, slice) else self._column[place].as_py()

    def take(self, chosen: NDArray[np.bool_]) -> Texts:
        """The chosen ones."""
        return Texts(self._column.filter(pa.array(chosen)))


@dataclass(frozen=True)
class Rows:
    """Rows that a policy of one digest answered.

    Attributes:
        observations: by the names of the card, each (B, *shape); None where the recording lacks a field.
        lacks: the fields that it lacks, such as images that were not kept.
        action: what was answered, float32 (B, C).
        raw: the raw actions, float32 (B, A).
        seed: int64 (B,); -1 where the policy did not sample.
        episode: for each row the place of its episode in `episodes`, -1 for none; int64 (B,).
        episodes: ids, each with a place in requests: of a batched request, each row is an episode of its own.
        frame: step of the episode, int64 (B,); NO_FRAME for none.
        reset: whether the row begins an episode, bool (B,).
        state: the recorded state before the row, by name, each float32 (B, *shape); zeros where there is none.
        has_state: whether it was recorded, bool (B,).
        moments: time and place of each row.
    """

    observations: dict[str, Array] | None
    lacks: tuple[str, ...]
    action: Float32
    raw: Float32
    seed: NDArray[np.int64]
    episode: NDArray[np.int64]
    episodes: list[tuple[str, int]]
    frame: NDArray[np.int64]
    reset: NDArray[np.bool_]
    state: dict[str, Float32]
    has_state: NDArray[np.bool_]
    moments: Moments

    def __len__(self) -> int:
        return len(self.action)

    def take(self, chosen: NDArray[np.bool_]) -> Rows:
        """The chosen rows, without their observations."""
        parts = ("action", "raw", "seed", "episode", "frame", "reset", "has_state")
        fewer = {name: getattr(self, name)[chosen] for name in parts}
        state = {name: values[chosen] for name, values in self.state.items()}
        return replace(self, observations=None, state=state, moments=self.moments.take(chosen), **fewer)

    @classmethod
    def of(cls, batch: pa.RecordBatch, card: Card) -> Rows:
        """Decodes rows with the outcome `policy` of one digest; `card` is that policy's.

        Raises:
            RefusedError: a column is missing, or has another shape than the card says.
        """
        observations, lacks = _observations(batch, card)
        state, has_state = _states(batch, card)
        moments = moments_of(batch)
        episode, episodes = _episodes(batch.column("episode_id"), moments.row)
        return cls(
            observations,
            lacks,
            matrix(batch, "action", len(card.action.control_names)),
            matrix(batch, "action.raw", len(card.action.raw)),
            integers(batch, "seed", -1),
            episode,
            episodes,
            moments.frame,
            batch.column("reset").fill_null(False).to_numpy(zero_copy_only=False),
            state,
            has_state,
            moments,
        )


def moments_of(batch: pa.RecordBatch) -> Moments:
    """Time and place of each row of a recording."""
    frame = integers(batch, "frame_index", NO_FRAME)
    texts = [Texts(batch.column(name)) for name in ("episode_id", "request_id")]
    return Moments(timestamps(batch), texts[0], frame, texts[1], integers(batch, "row", 0))


def timestamps(batch: pa.RecordBatch) -> NDArray[np.int64]:
    """Nanoseconds since 1970, (B,)."""
    return integers(batch, "timestamp", 0)


def integers(batch: pa.RecordBatch, name: str, missing: int) -> NDArray[np.int64]:
    """A column of whole numbers or times, (B,), with `missing` for null."""
    column = batch.column(name).cast(pa.int64()).fill_null(missing)
    values: NDArray[np.int64] = column.to_numpy(zero_copy_only=False)
    return values


def with_outcome(batch: pa.RecordBatch, outcome: str) -> pa.RecordBatch:
    """The rows of a batch that ended so."""
    return batch.filter(pc.equal(plain(batch.column("outcome")), outcome))


def by_digest(batch: pa.RecordBatch) -> Iterator[tuple[str, pa.RecordBatch]]:
    """The digests of a batch, each with its rows; rows without one are left out."""
    column = plain(batch.column("digest"))
    for digest in filter(None, pc.unique(column).to_pylist()):
        yield digest, batch.filter(pc.equal(column, digest))


def plain(column: pa.Array) -> pa.Array:
    """A column of texts without its dictionary."""
    return column.dictionary_decode() if pa.types.is_dictionary(column.type) else column


def matrix(batch: pa.RecordBatch, name: str, width: int) -> Float32:
    """A column of lists of `width` numbers as float32 (B, width), with NaN for null."""
    values, present = lists(batch, name, (width,), np.dtype(np.float32))
    values[~present] = np.nan
    return values


def _episodes(column: pa.Array, row: NDArray[np.int64]) -> tuple[NDArray[np.int64], list[tuple[str, int]]]:
    """For each row the place of its episode, -1 for none; and the episodes."""
    encoded = plain(column).dictionary_encode()
    number = encoded.indices.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int64)
    ids, width = encoded.dictionary.to_pylist(), int(row.max(initial=0)) + 1
    keys, episode = np.unique(np.where(number < 0, -1, number * width + row), return_inverse=True)
    unnamed = int(len(keys) > 0 and keys[0] < 0)
    named = [(ids[key // width], key % width) for key in keys[unnamed:].tolist()]
    return episode.reshape(-1) - unnamed, named


def _observations(batch: pa.RecordBatch, card: Card) -> tuple[dict[str, Array] | None, tuple[str, ...]]:
    found, lacks = dict[str, Array](), list[str]()
    for spec in card.observation_spec:
        name = OBSERVATION + spec.name
        if name not in batch.schema.names or batch.column(name).null_count:
            lacks.append(spec.name)
        else:
            found[spec.name] = _field(batch, name, spec)
    return (None, tuple(lacks)) if lacks else (found, ())


def _field(batch: pa.RecordBatch, name: str, spec: ArraySpec) -> Array:
    if spec.shape:
        return lists(batch, name, spec.shape, np.dtype(spec.dtype))[0]
    values = batch.column(name).to_numpy(zero_copy_only=False)
    return np.ascontiguousarray(values, dtype=spec.dtype)


def _states(batch: pa.RecordBatch, card: Card) -> tuple[dict[str, Float32], NDArray[np.bool_]]:
    has_state, state = np.ones(len(batch), np.bool_), dict[str, Float32]()
    for name, section in card.states.items():
        state[name], present = lists(batch, STATE + name, tuple(section.shape), np.dtype(np.float32))
        has_state &= present
    return state, has_state if state else np.zeros(len(batch), np.bool_)


def lists(
    batch: pa.RecordBatch, name: str, shape: tuple[int, ...], dtype: np.dtype[Any]
) -> tuple[Array, NDArray[np.bool_]]:
    """A column of lists, flat or nested → (B, *shape) with zeros for null, and which rows are not null."""
    if name not in batch.schema.names:
        raise RefusedError(f"the recording has no column {name}: it was written by another release")
    column, size = batch.column(name), math.prod(shape)
    present = column.is_valid().to_numpy(zero_copy_only=False)
    flat = column.drop_null()
    while pa.types.is_nested(flat.type):
        flat = flat.flatten()
    values = np.zeros((len(batch), *shape), dtype)
    rows = int(present.sum())
    if len(flat) != rows * size:
        raise RefusedError(f"{name}: the recording has {len(flat)} values in {rows} rows, the card {size} in each")
    if pa.types.is_floating(flat.type) or pa.types.is_integer(flat.type):
        values[present] = flat.to_numpy(zero_copy_only=False).reshape(rows, *shape)
        return values, present
    raise RefusedError(f"{name}: expected numbers, got {flat.type}")
