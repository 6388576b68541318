"""A policy with a memory on golden.npz's rollouts: step by step, and running freely with its own states."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..artifact.golden import Golden
from ..artifact.rollouts import next_key
from ..contract.actions import Actions
from ..contract.memory import States
from ..contract.specs import ObservationSpec

Answers = dict[str, NDArray[Any]]


def answers_of(actions: Actions) -> Answers:
    """Actions under the names of `Golden.answers`."""
    following = {next_key(name): array for name, array in actions.state.items()}
    return {"raw": actions.raw, "action": actions.control} | actions.distribution | following


def run_freely(act: Callable[..., Actions], trained: Golden) -> tuple[Answers, Answers]:
    """Runs each rollout with the policy's own states.

    Args:
        act: as `Engine.act`.
        trained: the trained policy's rollouts.

    Returns:
        The policy's answers, without next states, and the trained policy's, each (steps · episodes, width).
    """
    rollouts = trained.rollouts
    assert rollouts is not None
    answers = [answers_of(actions) for actions in act_freely(act, trained)]
    names = [name for name in trained.answers if name not in map(next_key, rollouts.state)]
    actual = {name: np.concatenate([answer[name] for answer in answers]) for name in names}
    wanted = {name: np.concatenate(rollouts.by_step(trained.answers[name])) for name in names}
    return actual, wanted


def act_freely(act: Callable[..., Actions], trained: Golden) -> Iterator[Actions]:
    """Yields a policy's actions (episodes, …) at each step of the rollouts, in which it keeps its own states.

    These may have other names and shapes than the trained policy's.

    Args:
        act: as `Engine.act`.
        trained: the rollouts.
    """
    rollouts = trained.rollouts
    assert rollouts is not None
    steps = [rollouts.by_step(array) for array in (*trained.observations.values(), rollouts.reset)]
    state: States | None = None
    for *observed, reset in zip(*steps, strict=True):
        actions = act(dict(zip(trained.observations, observed, strict=True)), state=state, reset=reset)
        state = actions.state
        yield actions


def with_seen_states(inputs: ObservationSpec, golden: Golden) -> ObservationSpec:
    """The specs of a graph's inputs; those of states with the range that they had in the golden rollouts."""
    if golden.rollouts is None:
        return inputs
    ranges = {name: (float(a.min()), float(a.max())) for name, a in golden.rollouts.state.items()}
    return ObservationSpec(dataclasses.replace(spec, seen=ranges.get(spec.name, spec.seen)) for spec in inputs)
