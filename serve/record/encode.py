"""Answered and refused requests → the record batches of blocks, many rows at once.

Written for speed: nothing here runs for each row but what a list comprehension does, and rows of one forward are taken
from its arrays in one piece.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from carla_mlflow.contract.answer import fallback_row
from serve.answering.forward import BatchSlice, observations_of
from serve.record.hook import Refused
from serve.record.layout import Layout
from serve.record.memory_rows import StatesGiven, state_column
from serve.record.ring import ACTED, OBSERVED
from serve.record.schema import OUTCOMES, STATE, Images

if TYPE_CHECKING:
    from serve.answering.prediction import Prediction
    from serve.policy.serving import Serving

Arrays = dict[str, NDArray[Any]]
Answered = tuple["Prediction", str]
"""A prediction that was answered with actions, and its request id."""

MINUTE_NS = 60_000_000_000
MAX_EPISODES = 65_536
"""Most episodes whose steps a worker counts; with more, the count of the one that was quiet longest begins anew."""
LATE = 504
_POLICY, _FALLBACK, _REFUSED = range(len(OUTCOMES))


class Encoder:
    """Encodes the rows of one worker; counts the steps of episodes."""

    def __init__(self, images: Images) -> None:
        """`images` is `keep` or `none`: whether the blocks have images."""
        self._images = images
        self._layouts: dict[str, Layout] = {}
        self._steps: OrderedDict[str, int] = OrderedDict()
        self._states = StatesGiven()

    def layout(self, serving: Serving) -> Layout:
        """The columns of a policy."""
        found = self._layouts.get(serving.digest)
        if found is None:
            found = self._layouts[serving.digest] = Layout(serving.card, self._images)
        return found

    def answered(self, serving: Serving, entries: Sequence[Answered]) -> pa.RecordBatch:
        """Encodes answers of one policy.

        Args:
            serving: the policy.
            entries: at least one.
        """
        layout, offset = self.layout(serving), _wall_clock_offset_ns()
        slices: list[BatchSlice] = [entry[0].answered for entry in entries]  # type: ignore[misc]  # set by `encode`
        counts = [each.stop - each.start for each in slices]
        repeats = None if len(entries) == sum(counts) else np.array(counts)
        times = np.array([(p.received, p.started, p.ended, p.decode_s) for p, _ in entries])
        received, started, ended, decode_s = times.T
        episodes = [entry[0].episode_id for entry in entries]
        rows = _rows(counts, repeats)
        timestamp = _repeat((received * 1e9).astype(np.int64) + offset, repeats)
        seeds = [each.batch.actions.seed for each in slices]
        inference_ms = np.array([each.batch.actions.inference_ms for each in slices], np.float32)
        columns: dict[str, Any] = {
            "timestamp": pa.array(timestamp).view(pa.timestamp("ns", "UTC")),
            "request_id": _texts([entry[1] for entry in entries], repeats),
            "row": pa.array(rows),
            "episode_id": _texts(episodes, repeats),
            "deterministic": pa.array(_repeat(np.array([seed is None for seed in seeds]), repeats)),
            "seed": _whole_numbers(seeds, repeats),
            "outcome": pa.array(np.zeros(len(rows), np.int8)),
            "status": pa.array(np.full(len(rows), 200, np.int16)),
            "queue_ms": _milliseconds(started - received, repeats),
            "decode_ms": _milliseconds(decode_s, repeats),
            "inference_ms": pa.array(_repeat(inference_ms, repeats)),
            "total_ms": _milliseconds(ended - received, repeats),
        }
        pieces = _pieces(slices)
        columns |= _of_policy(layout, pieces)
        columns |= self._of_episodes(serving, episodes, repeats, rows, timestamp, pieces)
        schema = layout.schema(OBSERVED | ACTED)
        return pa.record_batch([columns[name] for name in schema.names], schema=schema)

    def _of_episodes(
        self,
        serving: Serving,
        episodes: list[str | None],
        repeats: NDArray[np.intp] | None,
        rows: NDArray[np.int32],
        timestamp: NDArray[np.int64],
        pieces: list[tuple[BatchSlice, int, int]],
    ) -> dict[str, pa.Array]:
        if serving.tokens is None:
            frames = [None if episode is None else self._count(episode) for episode in episodes]
            return {"frame_index": _whole_numbers(frames, repeats), "reset": pa.nulls(len(rows), pa.bool_())}
        steps = np.concatenate([piece.batch.steps[start:stop] for piece, start, stop in pieces])  # type: ignore[index]
        entered = [(piece.batch.entered, start, stop) for piece, start, stop in pieces]
        reset = np.concatenate([each.reset[start:stop] for each, start, stop in entered])  # type: ignore[union-attr]
        every = episodes if repeats is None else np.repeat(np.array(episodes, object), repeats).tolist()
        given = self._states.given(serving.digest, every, rows, reset, timestamp // MINUTE_NS)
        found = {"frame_index": pa.array(steps.astype(np.int64) - 1), "reset": pa.array(reset)}
        for name in self.layout(serving).states:
            state = np.concatenate([each.state[name][start:stop] for each, start, stop in entered])  # type: ignore[union-attr]
            found[STATE + name] = state_column(state, given)
        return found

    def _count(self, episode: str) -> int:
        step = self._steps.pop(episode, 0)
        self._steps[episode] = step + 1
        if len(self._steps) > MAX_EPISODES:
            self._steps.popitem(last=False)
        return step

    def refused(self, serving: Serving, entries: Sequence[Refused]) -> Iterator[tuple[int, pa.RecordBatch]]:
        """Encodes errors of one policy: yields the flags of a block, and the batch."""
        seen, unseen = list[tuple[Refused, Arrays]](), list[Refused]()
        for entry in entries:
            observations = _observed(serving, self.layout(serving), entry)
            if observations is None:
                unseen.append(entry)
            else:
                seen.append((entry, observations))
        if seen:
            yield from self._errors(serving, [entry for entry, _ in seen], [each for _, each in seen])
        if unseen:
            yield from self._errors(serving, unseen, None)

    def _errors(
        self, serving: Serving, entries: list[Refused], observations: list[Arrays] | None
    ) -> Iterator[tuple[int, pa.RecordBatch]]:
        layout, offset = self.layout(serving), _wall_clock_offset_ns()
        late = [entry.status == LATE for entry in entries]
        if any(late) and not all(late):  # only those have an action
            for wanted in (True, False):
                places = [place for place, each in enumerate(late) if each is wanted]
                of_these = None if observations is None else [observations[place] for place in places]
                yield from self._errors(serving, [entries[place] for place in places], of_these)
            return
        flags = (OBSERVED if observations is not None else 0) | (ACTED if late[0] else 0)
        counts = [1] * len(entries)
        if observations is not None:
            counts = [len(next(iter(each.values()))) for each in observations]
        repeats = None if len(entries) == sum(counts) else np.array(counts)
        received = np.array([entry.received for entry in entries])
        rows, predictions = _rows(counts, repeats), [entry.prediction for entry in entries]
        decode_s = np.array([0.0 if each is None else each.decode_s for each in predictions])
        columns: dict[str, Any] = {
            "timestamp": pa.array(_repeat((received * 1e9).astype(np.int64) + offset, repeats)).view(
                pa.timestamp("ns", "UTC")
            ),
            "request_id": _texts([entry.request_id for entry in entries], repeats),
            "row": pa.array(rows),
            "episode_id": _texts([entry.episode_id for entry in entries], repeats),
            "deterministic": pa.array(_repeat(np.array([_is_deterministic(each) for each in predictions]), repeats)),
            "outcome": pa.array(np.full(len(rows), _FALLBACK if late[0] else _REFUSED, np.int8)),
            "status": pa.array(_repeat(np.array([entry.status for entry in entries], np.int16), repeats)),
            "decode_ms": _milliseconds(decode_s, repeats),
            "total_ms": _milliseconds(np.array([entry.ended for entry in entries]) - received, repeats),
        }
        if observations is not None:
            for name, field, _, _, width in layout.observations:
                columns[name] = _column([each[field] for each in observations], width)
        if late[0]:
            fallback = np.tile(fallback_row(layout.card.action), (len(rows), 1))
            columns["action"] = _column([fallback], fallback.shape[1])
        schema = layout.schema(flags)
        arrays = [columns[each.name] if each.name in columns else pa.nulls(len(rows), each.type) for each in schema]
        yield flags, pa.record_batch(arrays, schema=schema)


def _of_policy(layout: Layout, pieces: list[tuple[BatchSlice, int, int]]) -> dict[str, pa.Array]:
    """The columns of observation and action."""
    batches = [(piece.batch, start, stop) for piece, start, stop in pieces]
    found = {
        name: _column([batch.observations[field][start:stop] for batch, start, stop in batches], width)
        for name, field, _, _, width in layout.observations
    }
    actions = [(batch.actions, start, stop) for batch, start, stop in batches]
    found["action"] = _column([each.control[start:stop] for each, start, stop in actions], layout.action_width)
    found["action.raw"] = _column([each.raw[start:stop] for each, start, stop in actions], layout.raw_width)
    return found


def _observed(serving: Serving, layout: Layout, entry: Refused) -> Arrays | None:
    """The observations of a request that got an error; None where it could not be read as far as that."""
    if entry.prediction is None or entry.prediction.request is None:
        return None
    try:
        found = observations_of(serving, entry.prediction.request)
    except Exception:  # whatever made the request fail
        return None
    columns = layout.observations
    fits = all(found[each.field].shape[1:] == each.shape and found[each.field].dtype == each.dtype for each in columns)
    return found if fits and columns and len(found[columns[0].field]) else None


def _is_deterministic(prediction: Prediction | None) -> bool:
    return prediction is None or prediction.request is None or prediction.request.deterministic


def _wall_clock_offset_ns() -> int:
    """What is to be added to `time.perf_counter_ns` for nanoseconds since 1970."""
    return time.time_ns() - time.perf_counter_ns()


def _pieces(slices: list[BatchSlice]) -> list[tuple[BatchSlice, int, int]]:
    """The rows of the slices in order, as few pieces of whole forwards: one of the slices, first row, one past last."""
    found: list[tuple[BatchSlice, int, int]] = []
    first, start, stop = slices[0], slices[0].start, slices[0].start
    batch = first.batch
    for each in slices:
        if each.batch is batch and each.start == stop:
            stop = each.stop
            continue
        found.append((first, start, stop))
        first, batch, start, stop = each, each.batch, each.start, each.stop
    found.append((first, start, stop))
    return found


def _rows(counts: list[int], repeats: NDArray[np.intp] | None) -> NDArray[np.int32]:
    """Each row's place in its request."""
    if repeats is None:
        return np.zeros(len(counts), np.int32)
    return np.concatenate([np.arange(count, dtype=np.int32) for count in counts])


def _repeat(values: NDArray[Any], repeats: NDArray[np.intp] | None) -> NDArray[Any]:
    return values if repeats is None else np.repeat(values, repeats)


def _milliseconds(seconds: NDArray[np.float64], repeats: NDArray[np.intp] | None) -> pa.Array:
    return pa.array(_repeat((seconds * 1e3).astype(np.float32), repeats))


def _texts(texts: list[Any], repeats: NDArray[np.intp] | None) -> pa.Array:
    column = pa.array(texts, pa.string())
    return column if repeats is None else column.take(pa.array(np.repeat(np.arange(len(texts)), repeats)))


def _whole_numbers(numbers: list[int | None], repeats: NDArray[np.intp] | None) -> pa.Array:
    column = pa.array(numbers, pa.int64())
    return column if repeats is None else column.take(pa.array(np.repeat(np.arange(len(numbers)), repeats)))


def _column(parts: Sequence[NDArray[Any]], width: int | None) -> pa.Array:
    """Arrays, each (n, *shape), below each other: lists of `width` numbers, or numbers where that is None."""
    whole = np.ascontiguousarray(parts[0] if len(parts) == 1 else np.concatenate(parts))
    values = pa.array(whole.reshape(-1))
    return values if width is None else pa.FixedSizeListArray.from_arrays(values, width)
