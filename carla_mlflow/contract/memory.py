"""A policy's memory: the states that its graph takes and returns, which the caller carries from step to step.

The graph's inputs are the observations, then `reset`, then the states; its outputs `raw`, the head's parameters, then
the next states. `reset` is 1.0 where an episode begins: the graph then ignores the state and uses the card's `initial`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import SpecError
from .action_card import ActionCard
from .array_spec import ArraySpec
from .card_sections import StateCard
from .specs import ObservationSpec, check_names

Float32 = NDArray[np.float32]
States = dict[str, Float32]

RESET = "reset"
"""The graph's input that says which rows begin an episode, float32 (B,)."""


class _Reset(ArraySpec):
    """The spec of `reset`, whose example goes on with the state."""

    def generate_value(self) -> Float32:
        return np.zeros((), dtype=np.float32)


def next_name(name: str) -> str:
    """The graph's output that holds the next value of a state."""
    return f"{name}_next"


def graph_inputs(observation: ObservationSpec, states: Mapping[str, StateCard]) -> ObservationSpec:
    """What the graph takes, in order: observations and, with a memory, `reset` and the states."""
    if not states:
        return observation
    remembered = (ArraySpec(name, "float32", tuple(state.shape)) for name, state in states.items())
    return ObservationSpec((*observation, _Reset(RESET, "float32", (), 0.0, 1.0), *remembered))


def graph_outputs(action: ActionCard, states: Mapping[str, StateCard]) -> dict[str, tuple[int, ...]]:
    """What the graph returns, in order, name → shape without the batch axis: `raw`, the parameters, the next states."""
    outputs: dict[str, tuple[int, ...]] = {name: (width,) for name, width in action.outputs().items()}
    return outputs | {next_name(name): tuple(state.shape) for name, state in states.items()}


class Memory:
    """The states of a policy with a memory, for batches.

    Attributes:
        shapes: name → shape without the batch axis, in the card's order.
        size: elements of all states of one row together.
    """

    def __init__(self, states: Mapping[str, StateCard]) -> None:
        """Takes the card's section, which is not empty."""
        self.shapes = {name: tuple(state.shape) for name, state in states.items()}
        self.size = sum(math.prod(shape) for shape in self.shapes.values())
        self._initial = {name: initial_value(state) for name, state in states.items()}

    def initial(self, rows: int) -> States:
        """The states with which an episode begins, each float32 (B, *shape)."""
        return {name: np.repeat(value[None], rows, axis=0) for name, value in self._initial.items()}

    def enter(self, rows: int, state: Mapping[str, Any] | None, reset: Any) -> tuple[Float32, States]:
        """What the graph takes besides observations.

        Args:
            rows: of the batch.
            state: name → (B, *shape), from the step before; None: every row begins.
            reset: (B,) bool or float, the rows that begin although a state is given; None: no row.

        Returns:
            `reset` as float32 (B,), 0 or 1, and the states as float32 (B, *shape), in which rows that begin hold the
            initial values. Neither shares memory with the caller's.

        Raises:
            SpecError: a state is missing, unknown, of another shape, or holds a number that is not finite.
        """
        begins = _begins(rows, reset)
        if state is None:
            return np.ones(rows, dtype=np.float32), self.initial(rows)
        if not isinstance(state, Mapping):
            raise SpecError("state", f"expected arrays by name ({', '.join(self.shapes)}), got {type(state).__name__}")
        check_names(self.shapes, state.keys(), "state")
        entered = {name: self._entered(name, state[name], rows, begins) for name in self.shapes}
        return begins.astype(np.float32), entered

    def _entered(self, name: str, value: Any, rows: int, begins: NDArray[np.bool_]) -> Float32:
        shape = self.shapes[name]
        try:
            array = np.asarray(value)
        except ValueError as error:  # lists of different lengths
            raise SpecError(f"state.{name}", f"expected float32{[rows, *shape]}, all rows alike") from error
        if array.dtype.kind not in "fiu" or array.shape != (rows, *shape):
            raise SpecError(
                f"state.{name}",
                f"expected float32{[rows, *shape]}, got {array.dtype}{list(array.shape)}",
            )
        if array.dtype == np.float32:
            entered = array.copy()
        else:
            with np.errstate(over="ignore"):
                entered = array.astype(np.float32, order="C")
        if begins.any():
            entered[begins] = self._initial[name]
        finite = np.isfinite(entered)
        if not finite.all():
            row, *place = (int(index) for index in np.argwhere(~finite)[0])
            raise SpecError(f"state[{row}].{name}" + "".join(f"[{i}]" for i in place), "is not a finite float32")
        return entered

    def split(self, columns: Float32) -> States:
        """The next states side by side, (B, size) → name → contiguous float32 (B, *shape)."""
        states, start = {}, 0
        for name, shape in self.shapes.items():
            stop = start + math.prod(shape)
            states[name] = np.ascontiguousarray(columns[:, start:stop]).reshape(len(columns), *shape)
            start = stop
        return states


def initial_value(state: StateCard) -> Float32:
    """The value of one state with which an episode begins, float32 of the state's shape."""
    return np.broadcast_to(np.asarray(state.initial, dtype=np.float32), state.shape).copy()


def _begins(rows: int, reset: Any) -> NDArray[np.bool_]:
    if reset is None:
        return np.zeros(rows, dtype=np.bool_)
    wrong = SpecError(RESET, f"expected {rows} values, each true (or 1) where the episode begins, or false (or 0)")
    try:
        array = np.asarray(reset)
    except ValueError as error:  # lists of different lengths
        raise wrong from error
    if array.shape != (rows,) or array.dtype.kind not in "bfiu":
        raise wrong
    if array.dtype != np.bool_ and not ((array == 0) | (array == 1)).all():
        raise wrong
    return array.astype(np.bool_)
