"""The card's section `action`."""

from __future__ import annotations

from typing import Any, Literal

import msgspec
import numpy as np
from msgspec import UNSET, UnsetType
from numpy.typing import NDArray

from .control_kinds import ANSWERED, CHOICE, CONTROL_NAMES, NAMED
from .heads import CHOOSING, PARAMETERS
from .section import Section


class Control(Section, frozen=True):
    """What carla.VehicleControl takes: throttle and brake in [0, 1], steer in [-1, 1].

    Attributes:
        throttle: 0 to 1.
        brake: 0 to 1.
        steer: -1 (full left) to 1 (full right).
    """

    throttle: float
    brake: float
    steer: float


class ActionCard(Section, frozen=True):
    """How the graph's outputs become what the policy answers: throttle, brake and steer, or what `control` says.

    Attributes:
        head: what the network returns: deterministic, gaussian, squashed_gaussian, beta, categorical, multi_categorical
            or bernoulli.
        raw: the raw actions in the network's order: name → smallest and largest value.
        control: what they mean: acceleration_steer, throttle_brake_steer, table, acceleration, steer, or named.
        rate_hz: decisions per second.
        deterministic: of a beta head, its deterministic action: the distribution's mode, or its mean.
        table: with `control: table`, throttle, brake and steer of each choice.
        fallback: what to do when no action comes in time, by the answer's names; a choice by its label or its index.
        choices: with `control: named`, the labels of the choices: a list for the raw dimension `choice`, or lists by
            the names of raw dimensions.
        full_throttle: the raw value that means throttle 1; it may lie outside the bounds. Unset: 1.
        full_brake: the raw value that means brake 1, likewise. Unset: -1 for an acceleration, 1 for a pedal.
        full_right: the raw value that means steer 1, likewise. Unset: 1.
        repeat: ticks for which an action holds (frame skip), so that ticks come at `rate_hz` × `repeat`. Unset: 1.
    """

    head: str
    raw: dict[str, tuple[float, float]]
    control: str
    rate_hz: float
    fallback: dict[str, float | str]
    deterministic: Literal["mode", "mean"] = "mode"
    table: list[Control] | None = None
    full_throttle: float | UnsetType = UNSET
    full_brake: float | UnsetType = UNSET
    full_right: float | UnsetType = UNSET
    repeat: int | UnsetType = UNSET
    choices: list[str] | dict[str, list[str]] | UnsetType = UNSET

    @property
    def control_names(self) -> tuple[str, ...]:
        """The names of what the policy answers, in order."""
        return tuple(self.raw) if self.control == NAMED else ANSWERED.get(self.control, CONTROL_NAMES)

    @property
    def is_pedals(self) -> bool:
        """Whether the policy answers throttle, brake and steer."""
        return self.control != NAMED and self.control not in ANSWERED

    @property
    def choice_counts(self) -> tuple[int, ...]:
        """The number of choices of each raw dimension; empty for a policy that does not choose."""
        if self.table is None and self.head not in CHOOSING and not (self.control == NAMED and CHOICE in self.raw):
            return ()
        return tuple(int(high) + 1 for _, high in self.raw.values())

    @property
    def bounds(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Smallest and largest raw action, each float32 (A,)."""
        bounds = np.array(list(self.raw.values()), dtype=np.float32)
        return bounds[:, 0].copy(), bounds[:, 1].copy()

    @property
    def tick_hz(self) -> float:
        """Ticks per second: how often a policy is to see an observation, though it decides at `rate_hz`."""
        return self.rate_hz * (self.repeat or 1)

    def outputs(self) -> dict[str, int]:
        """The graph's outputs in order, name → width: `raw`, then the head's parameters."""
        width = len(self.raw)
        logits = width if self.head == "bernoulli" else sum(self.choice_counts)
        return {"raw": width} | {n: logits if n == "logits" else width for n in PARAMETERS[self.head]}

    def to_dict(self) -> dict[str, Any]:
        """As plain values, without a table when there is none."""
        return {key: value for key, value in msgspec.to_builtins(self).items() if value is not None}


NEWER_ACTIONS = (NAMED, *ANSWERED, "multi_categorical", "bernoulli")
"""The kinds of control and heads that format 1 does not have."""
