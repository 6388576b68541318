"""A policy's actions, the same type from the local engine and from a remote server."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import msgspec
import numpy as np
from numpy.typing import NDArray

from ..errors import ContractError, SpecError
from .answer import fallback_row
from .control_kinds import CONTROL_NAMES

if TYPE_CHECKING:
    from .action_card import ActionCard

Float32 = NDArray[np.float32]


class Actions(msgspec.Struct, frozen=True, eq=False):
    """The actions for one batch. (A msgspec struct: creating one takes a tenth of a dataclass's time.)

    Attributes:
        control: what the policy answers, float32 (B, C): throttle, brake, steer, or what `names` says; of a choice its
            index.
        raw: the head's raw actions, in the card's order; float32 (B, A).
        distribution: the head's parameters by name, each float32 (B, A), or (B, K) for logits.
        seed: the seed of a sampled batch; None in deterministic mode.
        check_ms: time to read and check the observations, milliseconds.
        inference_ms: time in the graph, milliseconds.
        control_ms: time to check the graph's outputs, sample, and convert to control, milliseconds.
        fallback: whether these are the card's fallback because they were late; `raw` then has no rows.
        state: the memory for the next step by name, each float32 (B, *shape); empty for a policy without memory. Late
            actions bring back the state that was given: the observation does not count.
        names: of the columns of `control`, as `ActionCard.control_names`.
    """

    control: Float32
    raw: Float32
    distribution: dict[str, Float32] = {}
    seed: int | None = None
    check_ms: float = 0.0
    inference_ms: float = 0.0
    control_ms: float = 0.0
    fallback: bool = False
    state: dict[str, Float32] = {}
    names: tuple[str, ...] = CONTROL_NAMES

    def vehicle_control(self, row: int = 0) -> tuple[float, float, float]:
        """One row in the order of `carla.VehicleControl(throttle, steer, brake)`, which takes Python floats only.

        Args:
            row: of the batch.

        Returns:
            throttle in [0, 1], steer in [-1, 1] (positive: to the right), brake in [0, 1].

        Raises:
            IndexError: the batch has no such row.
            ContractError: the policy does not answer throttle, brake and steer.
        """
        if self.names != CONTROL_NAMES:
            raise ContractError(f"this policy answers {', '.join(self.names)}, not throttle, brake and steer")
        throttle, brake, steer = self.control[row].tolist()
        return throttle, steer, brake


def fallback_actions(action: ActionCard, rows: int, state: dict[str, Float32] | None = None) -> Actions:
    """The card's fallback for each row: what a car does when no action comes in time; `state` is what came in."""
    control, raw = np.tile(fallback_row(action), (rows, 1)), np.empty((0, len(action.raw)), np.float32)
    return Actions(control, raw, fallback=True, state=state or {}, names=action.control_names)


def check_budget(budget_ms: float | None) -> None:
    """Raises SpecError unless it is a number of milliseconds, or None."""
    if budget_ms is not None and not 0 <= budget_ms < math.inf:
        raise SpecError("budget_ms", f"expected milliseconds, got {budget_ms}")
