"""Answered requests → packed rows, many at once.

Written for speed: nothing here runs for each row but what a list comprehension does, and rows of one forward are taken
from its arrays in one piece.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from serve.answering.forward import ForwardArrays
from serve.record.hook import Answered
from serve.record.layout import Layout
from serve.record.memory_rows import StatesGiven
from serve.record.packed import Forwards, Memory, Packed, float64s, int32s, joined
from serve.record.request_rows import RequestRows
from serve.record.schema import OUTCOMES, Images

if TYPE_CHECKING:
    from carla_mlflow.contract.state_token import Decoded
    from serve.policy.serving import Serving

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


class Packer:
    """Packs the rows of one worker; counts the steps of episodes."""

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

    def answered(self, serving: Serving, entries: Sequence[Answered], offset_ns: int) -> tuple[int, Packed]:
        """Packs answers of one policy; returns the number of their rows, too.

        Args:
            serving: the policy.
            entries: at least one.
            offset_ns: of the clock, as in `Packed`; the same for all parts of a request.
        """
        layout = self.layout(serving)
        ids, episodes, received, began, ended, decode_s, arrays, starts, stops, firsts, _ = zip(*entries, strict=True)
        rows, is_named = sum(stops) - sum(starts), any(episodes)
        pieces = _pieces(arrays, began, starts, stops)
        counts = None if rows == len(ids) else [stop - start for start, stop in zip(starts, stops, strict=True)]
        packed = Packed(
            offset_ns,
            ids,
            episodes if is_named else None,
            None,
            float64s(received),
            float64s(ended),
            float64s(decode_s),
            None if counts is None else int32s(counts),
            int32s(firsts) if any(firsts) else None,
            POLICY,
            None,
            None,
            _forwards(pieces),
            _arrays(layout, pieces),
        )
        if serving.tokens is not None:
            packed.memory = self._memory(serving, RequestRows(counts or len(ids), firsts), packed, episodes, pieces)
        elif is_named:
            named = zip(episodes, firsts, strict=True)
            packed.frames = [None if episode is None else self._step(episode, first) for episode, first in named]
        return rows, packed

    def _step(self, episode: str, first: int) -> int:
        """How many actions an episode had before; a request that is packed in parts is one action."""
        step = self._steps.pop(episode, 0)
        self._steps[episode] = step + 1 if not first else step
        if len(self._steps) > MAX_EPISODES:
            self._steps.popitem(last=False)
        return step if not first else step - 1

    def _memory(
        self,
        serving: Serving,
        rows: RequestRows,
        packed: Packed,
        episodes: Sequence[str | None],
        pieces: Pieces,
    ) -> Memory:
        """What is packed for a policy with memory; `episodes` are the requests'."""
        entered = [
            (_entered(arrays), start, stop)
            for arrays, start, stop in zip(pieces.arrays, pieces.starts, pieces.stops, strict=True)
        ]
        steps = np.concatenate([each.steps[start:stop] for each, start, stop in entered])
        reset = np.concatenate([each.reset[start:stop] for each, start, stop in entered])
        minutes = rows.timestamps(np.frombuffer(packed.received), packed.offset_ns) // MINUTE_NS
        given = self._states.given(serving.digest, rows.spread_list(episodes), rows.places(), reset, minutes)
        states = [
            np.concatenate([each.state[name][start:stop] for each, start, stop in entered])[given].tobytes()
            for name in self.layout(serving).states
        ]
        return Memory(steps.astype(np.uint32).tobytes(), reset.tobytes(), given.tobytes(), states)


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


def _forwards(pieces: Pieces) -> Forwards:
    counts = [stop - start for start, stop in zip(pieces.starts, pieces.stops, strict=True)]
    actions = [arrays.actions for arrays in pieces.arrays]
    seeds = [each.seed for each in actions]
    return Forwards(
        int32s(counts),
        float64s(pieces.began),
        float64s([each.inference_ms for each in actions]),
        seeds if any(seed is not None for seed in seeds) else None,
    )


def _arrays(layout: Layout, pieces: Pieces) -> list[bytes]:
    """The columns of observation and action."""
    whole = pieces.arrays
    actions = [arrays.actions for arrays in whole]
    parts = [
        (place, start, stop)
        for place, (each, start, stop) in enumerate(zip(actions, pieces.starts, pieces.stops, strict=True))
        if stop - start < len(each.control)
    ]

    def column(arrays: list[NDArray[Any]]) -> bytes:
        for place, start, stop in parts:  # few: most pieces are whole forwards
            arrays[place] = arrays[place][start:stop]
        return joined(arrays)

    found = [column([each.observations[field] for each in whole]) for _, field, _, _, _ in layout.observations]
    return [*found, column([each.control for each in actions]), column([each.raw for each in actions])]
