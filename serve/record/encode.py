"""Answered requests → the record batches of blocks, many rows at once.

Written for speed: nothing here runs for each row but what a list comprehension does, and rows of one forward are taken
from its arrays in one piece.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from serve.answering.forward import ForwardArrays
from serve.record.hook import Answered
from serve.record.layout import Layout
from serve.record.memory_rows import StatesGiven, state_column
from serve.record.request_rows import RequestRows, stacked
from serve.record.ring import ACTED, OBSERVED
from serve.record.schema import OUTCOMES, STATE, Images

if TYPE_CHECKING:
    from carla_mlflow.contract.state_token import Decoded
    from serve.policy.serving import Serving

Columns = dict[str, pa.Array]

MINUTE_NS = 60_000_000_000
MAX_EPISODES = 65_536
"""Most episodes whose steps a worker counts; with more, the count of the one that was quiet longest begins anew."""
POLICY = OUTCOMES.index("policy")


class Pieces(NamedTuple):
    """Consecutive rows of forwards, piece by piece. (Lists, since a piece with one row is the usual case.)

    Attributes:
        arrays: of each piece's forward.
        began: when that began, by `time.perf_counter`.
        starts: first rows.
        stops: one past the last.
    """

    arrays: list[ForwardArrays]
    began: list[float]
    starts: list[int]
    stops: list[int]


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
        layout = self.layout(serving)
        ids, episodes, received, began, ended, decode_s, arrays, starts, stops, _ = zip(*entries, strict=True)
        pieces = _pieces(arrays, began, starts, stops)
        rows = _rows(starts, stops)
        came = np.array(received)
        timestamps, column = rows.timestamps(came, wall_clock_offset_ns())
        columns: Columns = {
            "timestamp": column,
            "request_id": rows.column(ids, pa.string()),
            "row": pa.array(rows.places()),
            "episode_id": rows.column(episodes, pa.string()) if any(episodes) else rows.constant(None, "string"),
            "outcome": rows.constant(POLICY, "int8"),
            "status": rows.constant(200, "int16"),
            "decode_ms": rows.milliseconds(np.array(decode_s)),
            "total_ms": rows.milliseconds(np.array(ended) - came),
        }
        columns |= _of_forwards(rows, pieces, rows.spread(came))
        columns |= _of_policy(layout, pieces)
        if serving.tokens is None:
            columns |= self._steps_of(episodes, rows)
        else:
            columns |= self._memory_of(serving, rows.spread_list(episodes), rows.places(), timestamps, pieces)
        schema = layout.schema(OBSERVED | ACTED)
        return pa.record_batch([columns[name] for name in schema.names], schema=schema)

    def _steps_of(self, episodes: Sequence[str | None], rows: RequestRows) -> Columns:
        """The columns of a policy without memory."""
        reset = rows.constant(None, "bool")
        if not any(episodes):
            return {"frame_index": rows.constant(None, "int64"), "reset": reset}
        frames = [None if episode is None else self._count(episode) for episode in episodes]
        return {"frame_index": rows.column(frames, pa.int64()), "reset": reset}

    def _count(self, episode: str) -> int:
        step = self._steps.pop(episode, 0)
        self._steps[episode] = step + 1
        if len(self._steps) > MAX_EPISODES:
            self._steps.popitem(last=False)
        return step

    def _memory_of(
        self,
        serving: Serving,
        episodes: Sequence[str | None],
        places: NDArray[np.int32],
        timestamps: NDArray[np.int64],
        pieces: Pieces,
    ) -> Columns:
        """The columns of a policy with memory; episodes, places and timestamps are those of the rows."""
        entered = [
            (_entered(arrays), start, stop)
            for arrays, start, stop in zip(pieces.arrays, pieces.starts, pieces.stops, strict=True)
        ]
        steps = np.concatenate([each.steps[start:stop] for each, start, stop in entered])
        reset = np.concatenate([each.reset[start:stop] for each, start, stop in entered])
        given = self._states.given(serving.digest, episodes, places, reset, timestamps // MINUTE_NS)
        found = {"frame_index": pa.array(steps.astype(np.int64)), "reset": pa.array(reset)}
        for name in self.layout(serving).states:
            state = np.concatenate([each.state[name][start:stop] for each, start, stop in entered])
            found[STATE + name] = state_column(state, given)
        return found


def wall_clock_offset_ns() -> int:
    """What is to be added to `time.perf_counter_ns` for nanoseconds since 1970."""
    return time.time_ns() - time.perf_counter_ns()


def _entered(arrays: ForwardArrays) -> Decoded:
    assert arrays.entered is not None
    return arrays.entered


def _pieces(
    arrays: Sequence[ForwardArrays], began: Sequence[float], starts: Sequence[int], stops: Sequence[int]
) -> Pieces:
    """The rows of requests in order, in as few pieces as possible; the arguments have one element for each request."""
    found = Pieces([], [], [], [])
    ends, of, end = found.stops, None, 0
    for each, when, start, stop in zip(arrays, began, starts, stops, strict=True):
        if each is of and start == end:
            ends[-1] = end = stop
        else:
            of, end = each, stop
            found.arrays.append(each)
            found.began.append(when)
            found.starts.append(start)
            ends.append(stop)
    return found


def _rows(starts: Sequence[int], stops: Sequence[int]) -> RequestRows:
    counts = [stop - start for start, stop in zip(starts, stops, strict=True)]
    return RequestRows(len(counts), None if sum(counts) == len(counts) else counts)  # each has at least one


def _of_forwards(rows: RequestRows, pieces: Pieces, received: NDArray[np.float64]) -> Columns:
    """The columns that are the same for all rows of a forward; `received` is each row's."""
    counts = np.subtract(pieces.stops, pieces.starts)
    began = np.repeat(np.array(pieces.began), counts)
    inference_ms = np.array([arrays.actions.inference_ms for arrays in pieces.arrays], np.float32)
    found = {
        "queue_ms": pa.array(((began - received) * 1e3).astype(np.float32)),
        "inference_ms": pa.array(np.repeat(inference_ms, counts)),
    }
    seeds = [arrays.actions.seed for arrays in pieces.arrays]
    if all(seed is None for seed in seeds):
        return found | {"deterministic": rows.constant(True, "bool"), "seed": rows.constant(None, "int64")}
    spread = [seed for seed, count in zip(seeds, counts.tolist(), strict=True) for _ in range(count)]
    deterministic = pa.array([seed is None for seed in spread])
    return found | {"deterministic": deterministic, "seed": pa.array(spread, pa.int64())}


def _of_policy(layout: Layout, pieces: Pieces) -> Columns:
    """The columns of observation and action."""
    whole = pieces.arrays
    actions = [arrays.actions for arrays in whole]
    parts = [
        (place, start, stop)
        for place, (each, start, stop) in enumerate(zip(actions, pieces.starts, pieces.stops, strict=True))
        if stop - start < len(each.control)
    ]

    def column(arrays: list[NDArray[Any]], width: int | None) -> pa.Array:
        for place, start, stop in parts:  # few: most pieces are whole forwards
            arrays[place] = arrays[place][start:stop]
        return stacked(arrays, width)

    found = {
        name: column([each.observations[field] for each in whole], width)
        for name, field, _, _, width in layout.observations
    }
    found["action"] = column([each.control for each in actions], layout.action_width)
    found["action.raw"] = column([each.raw for each in actions], layout.raw_width)
    return found
