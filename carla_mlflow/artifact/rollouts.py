"""The rollouts in golden.npz of a policy with a memory: the trained policy's states, step by step."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..contract.card import Card
from ..contract.memory import RESET
from ..errors import ArtifactError

Array = NDArray[Any]

EPISODES, STEPS = 4, 32
"""The fewest rollouts, and the fewest steps of each."""
REMEMBERED = 8
"""The fewest steps in a row, in each rollout, at which no episode begins: what is always reset shows no memory."""


@dataclass(frozen=True)
class Rollouts:
    """What golden rows of a policy with a memory hold besides; row `episode * steps + step` of N.

    Attributes:
        episodes: number of rollouts, all of the same length. Each begins with `reset`, and may begin anew later.
        reset: float32 (N,), 1.0 where an episode begins.
        state: name → float32 (N, *shape), the state that the trained policy was given.
        next: name → float32 (N, *shape), the state that it returned.
    """

    episodes: int
    reset: Array
    state: dict[str, Array]
    next: dict[str, Array]

    @property
    def steps(self) -> int:
        """The length of each rollout."""
        return len(self.reset) // self.episodes

    def split(self, rows: Array) -> Array:
        """(N, …) → (episodes, steps, …)."""
        return rows.reshape(self.episodes, self.steps, *rows.shape[1:])

    def by_step(self, rows: Array) -> list[Array]:
        """The rows of each step, (episodes, …), in order."""
        return list(np.ascontiguousarray(np.swapaxes(self.split(rows), 0, 1)))

    def arrays(self) -> dict[str, Array]:
        """As in golden.npz but flat: `reset`, `state.<name>`, `next.<name>`."""
        states = {f"state.{name}": array for name, array in self.state.items()}
        return {"reset": self.reset} | states | {next_key(name): array for name, array in self.next.items()}


def next_key(name: str) -> str:
    """The name under which the next values of a state are compared, and lie in golden.npz."""
    return f"next.{name}"


def read_rollouts(arrays: Mapping[str, Array], card: Card) -> tuple[dict[str, Array], Rollouts]:
    """The arrays of golden.npz, (episodes, steps, …), as rows, and the rollouts.

    Raises:
        ArtifactError: they are too few or too short, differ in length, or their states do not follow from each other;
            or they show nothing of a memory, as episodes begin too often in them, or no state ever changes.
        KeyError: an array is missing.
    """
    name = card.parity.file
    sizes = {array.shape[:2] for array in arrays.values()}
    size = sizes.pop() if len(sizes) == 1 else ()
    if len(size) != 2 or size[0] < EPISODES or size[1] < STEPS:
        raise ArtifactError(
            f"{name}: expected every array with the same episodes and steps first, at least {EPISODES} and {STEPS}: "
            "the policy has a memory"
        )
    rows = {key: array.reshape(-1, *array.shape[2:]) for key, array in arrays.items()}
    states, following = ({n: rows[f"{kind}.{n}"] for n in card.states} for kind in ("state", "next"))
    rollouts = Rollouts(size[0], rows[RESET], states, following)
    for state, spec in card.states.items():
        for array in (states[state], following[state]):
            if array.dtype != np.float32 or list(array.shape[1:]) != spec.shape or not np.isfinite(array).all():
                raise ArtifactError(f"{name}: state {state}: expected finite float32{spec.shape} a step")
        given, got = rollouts.split(states[state]), rollouts.split(following[state])
        if not np.array_equal(given[:, 1:], got[:, :-1]):
            raise ArtifactError(f"{name}: state {state}: a step was not given what the step before returned")
    reset = rollouts.split(rollouts.reset)
    if reset.dtype != np.float32 or reset.ndim != 2 or not np.isin(reset, (0, 1)).all() or not (reset[:, 0] == 1).all():
        raise ArtifactError(f"{name}: reset: expected float32, 1 at the first step of each rollout, 0 or 1 later")
    _check_memory_is_shown(rollouts, name)
    return rows, rollouts


def _check_memory_is_shown(rollouts: Rollouts, name: str) -> None:
    """Refuses rollouts that a policy with another memory, or with none, would answer alike."""
    goes_on = rollouts.split(rollouts.reset) == 0
    shortest = min(_longest_run(steps) for steps in goes_on)
    if goes_on.mean() < 0.5 or shortest < REMEMBERED:
        raise ArtifactError(
            f"{name}: reset: expected 0 at half of all steps or more, and at {REMEMBERED} steps in a row of each "
            f"rollout; it is 0 at {int(goes_on.sum())} of {goes_on.size}, and at {shortest} in a row of one: where "
            "episodes begin all the time, the memory is never used"
        )
    if all((following == following[:1]).all() for following in rollouts.next.values()):
        raise ArtifactError(
            f"{name}: {', '.join(rollouts.next)}: the same after every step: the policy has no memory; "
            "export it without the card's section `state`"
        )


def _longest_run(true: Array) -> int:
    """The most elements in a row that are true, of bool (T,)."""
    ends = np.flatnonzero(np.diff(np.concatenate([[False], true, [False]])))
    return int((ends[1::2] - ends[::2]).max(initial=0))
