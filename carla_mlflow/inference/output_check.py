"""Checks a graph's outputs: finite numbers, next states too, raw actions in bounds, parameters that the head allows."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from ..contract.action_card import ActionCard
from ..contract.heads import POSITIVE
from ..errors import ActionError


class OutputCheck:
    """Checks a graph's outputs, side by side as in the engine, against their limits."""

    def __init__(self, action: ActionCard, states: Mapping[str, int]) -> None:
        """Takes the card's section and the elements of each next state by name; none without a memory."""
        # Parameters without bounds get those of float32, so that the comparison refuses a NaN.
        limit = np.finfo(np.float32).max
        low, high = action.bounds
        widths = {name: width for name, width in action.outputs().items() if name != "raw"} | dict(states)
        self._names = [*action.raw, *(name for name, width in widths.items() for _ in range(width))]
        least = np.array([0.0 if name in POSITIVE else -limit for name in widths], dtype=np.float32)
        self._low = np.concatenate([low, np.repeat(least, list(widths.values()))])[:, None]
        self._high = np.concatenate([high, np.full(sum(widths.values()), limit, dtype=np.float32)])[:, None]
        self._choices = len(action.choice_counts)  # the first columns are indices of choices

    def check(self, numbers: NDArray[np.float32]) -> None:
        """Checks the graph's outputs, or raw actions alone.

        Args:
            numbers: float32 (B, sum of widths), or (B, A).

        Raises:
            ActionError: a number can't be used; names the first such row and output.
        """
        columns = numbers.T
        width = len(columns)
        inside = (columns >= self._low[:width]) & (columns <= self._high[:width])  # False for a NaN
        if not inside.all():
            row, column = (int(place) for place in np.argwhere(~inside.T)[0])
            raise ActionError(f"row {row}: the policy's {self._names[column]} is not finite or leaves its bounds")
        if self._choices and (odd := columns[: self._choices] != np.rint(columns[: self._choices])).any():
            column, row = (int(place) for place in np.argwhere(odd)[0])
            raise ActionError(f"row {row}: the policy's {self._names[column]} is not a whole number")
