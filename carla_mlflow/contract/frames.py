"""The frames of the latest ticks, and the stacks that the graph takes of them."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..errors import SpecError
from .history import frame_spec
from .observations import as_arrays

if TYPE_CHECKING:
    from .card_sections import CardFields

Array = NDArray[Any]


class Ring:
    """The frames of one field, as many as its history needs."""

    def __init__(self, ticks: list[int], start: str) -> None:
        self._ticks, self._starts_with_zeros = ticks, start == "zeros"
        self._frames: deque[Array] = deque(maxlen=1 - ticks[0])

    def push(self, frame: Array) -> None:
        """Takes one tick's frame, as a copy."""
        self._frames.append(frame.copy())

    def hold(self) -> None:
        """Takes the latest frame once more, for a tick that has none of its own; nothing before the first frame."""
        if self._frames:
            self._frames.append(self._frames[-1])

    def stack(self) -> Array:
        """The frames of the history's ticks, oldest first, joined along the first axis."""
        return np.concatenate([self._at(tick) for tick in self._ticks], axis=0)

    def _at(self, tick: int) -> Array:
        index = len(self._frames) - 1 + tick
        if index >= 0:
            return self._frames[index]
        return np.zeros_like(self._frames[0]) if self._starts_with_zeros else self._frames[0]


class History:
    """Makes of each tick's frames what the graph takes: a batch of one row."""

    def __init__(self, card: CardFields) -> None:
        self.frames = frame_spec(card.observation)
        self._shapes = {spec.name: spec.shape for spec in self.frames}
        self._rings = {
            name: Ring(field.history, str(field.history_start))
            for name, field in card.observation.items()
            if field.history
        }

    def take(self, observation: Mapping[str, Any]) -> dict[str, Array]:
        """Takes one tick's frames; returns the batch. Bounds are checked only where a field has a history.

        Args:
            observation: every field, as an array, a number or a list, without a batch axis or with one of 1.

        Raises:
            SpecError: it does not fit. The frames before it then count for this tick, too.
        """
        if not isinstance(observation, Mapping):
            raise SpecError("observation", "expected one observation, as a dict of its fields")
        if not self._rings and (quick := self._as_they_are(observation)):
            return quick
        try:
            batch = as_arrays(self.frames, {name: self._row(name, value) for name, value in observation.items()})
            if not self._rings:
                return batch
            self.frames.validate(batch)  # before it is kept: a NaN would spoil the stacks of later ticks
        except SpecError:
            self.hold()
            raise
        for name, ring in self._rings.items():
            ring.push(batch[name][0])
        return batch | {name: ring.stack()[None] for name, ring in self._rings.items()}

    def _as_they_are(self, observation: Mapping[str, Any]) -> dict[str, Array]:
        """The batch of arrays that need no conversion; empty if one does. A cheap check."""
        batch: dict[str, Array] = {}
        for spec in self.frames:
            value = observation.get(spec.name)
            if not isinstance(value, np.ndarray | np.generic) or value.dtype != spec.dtype or value.shape != spec.shape:
                return {}
            batch[spec.name] = np.asarray(value)[None]
        return batch if len(observation) == len(batch) else {}

    def _row(self, name: str, value: Any) -> Any:
        """The value with a batch axis of 1."""
        shape = self._shapes.get(name)
        if shape is None:
            return value  # an unknown field, which is refused by its name
        try:
            array = np.asarray(value)
        except ValueError:  # lists of different lengths, which are refused by their place
            return [value]
        if array.ndim == 0 and shape == (1,) and name in self._rings:
            return array.reshape(1, 1)
        if array.ndim != len(shape) + 1:
            return array[None]
        if len(array) != 1:
            raise SpecError(f"observations.{name}", f"has {len(array)} rows; an episode takes one observation a tick")
        return array

    def hold(self) -> None:
        """Lets a tick pass without an observation: the latest frames count for it, too."""
        for ring in self._rings.values():
            ring.hold()
