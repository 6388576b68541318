"""Rows of a recording by time and place, and those in which two actions differ."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

Float32 = NDArray[np.float32]


class Moments(NamedTuple):
    """When and where each row of a batch was observed.

    Attributes:
        timestamp: nanoseconds since 1970, int64 (B,).
        episode: ids, None for a row of no episode; anything of length B that can be indexed.
        frame: step of the episode, int64 (B,), -1 where it has none.
        request: ids of requests, likewise.
        row: place in the request, int (B,).
    """

    timestamp: NDArray[np.int64]
    episode: Sequence[str | None]
    frame: NDArray[np.int64]
    request: Sequence[str]
    row: NDArray[Any]

    def take(self, chosen: NDArray[np.bool_]) -> Moments:
        """Those of the chosen rows."""
        episode, request = (_chosen(texts, chosen) for texts in (self.episode, self.request))
        return Moments(self.timestamp[chosen], episode, self.frame[chosen], request, self.row[chosen])


def _chosen(texts: Any, chosen: NDArray[np.bool_]) -> Any:
    """Of a list or another sequence, which knows `take`."""
    return texts.take(chosen) if hasattr(texts, "take") else [texts[place] for place in np.flatnonzero(chosen)]


class Moment(msgspec.Struct, frozen=True, order=True):
    """A row in which two versions differ; the larger difference sorts first, then the earlier row.

    Attributes:
        closeness: 1 - difference.
        timestamp: nanoseconds since 1970.
        episode: id; empty for none.
        frame: step of the episode; -1 for none.
        request: id of the request.
        row: place in the request.
        recorded: the action that was taken, in the order of `ActionCard.control_names`.
        other: what the other version would have done.
    """

    closeness: float
    timestamp: int
    episode: str
    frame: int
    request: str
    row: int
    recorded: tuple[float, ...]
    other: tuple[float, ...]

    @property
    def difference(self) -> float:
        """The largest difference of a dimension, as a share of its span, from 0 to 1."""
        return 1.0 - self.closeness


def moment_of(place: int, closeness: float, recorded: Float32, other: Float32, moments: Moments) -> Moment:
    """The row at a place of a batch; the actions are (B, N)."""
    actions = (tuple(recorded[place].tolist()), tuple(other[place].tolist()))
    when, frame, row = (int(values[place]) for values in (moments.timestamp, moments.frame, moments.row))
    return Moment(closeness, when, moments.episode[place] or "", frame, moments.request[place], row, *actions)
