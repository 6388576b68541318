"""Which rows of a policy with memory are recorded with the state that came in.

A replay carries the state from row to row by itself; it needs the first. So a row has the state where its episode is
recorded for the first time, and once in every minute, so that a replay can begin in any file; always where the request
names no episode, since nothing then says which row came before. A row whose episode begins (`reset`) needs none: its
memory has the initial values of the card.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

MAX_KNOWN = 65_536
"""Most episodes' rows that a worker keeps in mind; with more, states are recorded more often than they have to be."""


class StatesGiven:
    """Decides for each row whether its state is recorded; one for each worker."""

    def __init__(self) -> None:
        self._minutes: dict[tuple[str, str, int], int] = {}

    def given(
        self,
        digest: str,
        episodes: Sequence[str | None],
        rows: NDArray[np.int32],
        reset: NDArray[np.bool_],
        minutes: NDArray[np.int64],
    ) -> NDArray[np.bool_]:
        """Returns which rows are recorded with their state, (N,).

        Args:
            digest: of the policy.
            episodes: N, each row's episode; None where it names none.
            rows: (N,), its place in its request.
            reset: (N,), whether its memory begins here.
            minutes: (N,), the minute in which it came, counted since 1970.
        """
        found = ~reset
        known = self._minutes
        if len(known) > MAX_KNOWN:
            known.clear()
        for place, (episode, row, minute) in enumerate(zip(episodes, rows.tolist(), minutes.tolist(), strict=True)):
            if episode is None:
                continue
            key = digest, episode, row
            if known.get(key) == minute:
                found[place] = False
            known[key] = minute
        return found


def state_column(state: NDArray[np.float32], given: NDArray[np.bool_]) -> pa.Array:
    """The column of one state: null where it is not given, else flat in C order.

    Args:
        state: of the rows that are given, one behind the other, flat in C order.
        given: (N,).
    """
    offsets = np.zeros(len(given) + 1, np.int32)
    np.cumsum(given * (len(state) // max(1, int(given.sum()))), out=offsets[1:])
    values = pa.array(state, pa.float32())
    return pa.ListArray.from_arrays(pa.array(offsets), values, mask=pa.array(~given))
