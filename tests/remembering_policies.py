"""What the tests of policies with memory share: small ones, and a rollout that carries the state from step to step."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from benchmarks.support.encoding import rows_of
from carla_mlflow import Engine
from carla_mlflow.contract.specs import ObservationSpec

Row = dict[str, Any]
Ask = Callable[[list[Row]], list[Row]]
"""Observations, each perhaps with `state` → actions, each with `state`."""


def observed(specs: ObservationSpec, episodes: int, steps: int, seed: int = 0) -> list[dict[str, np.ndarray]]:
    """For each step the observations of all episodes."""
    rng = np.random.default_rng(seed)
    return [{spec.name: spec.sample(rng, episodes) for spec in specs} for _ in range(steps)]


def local(engine: Engine, steps: Sequence[dict[str, np.ndarray]]) -> np.ndarray:
    """What the engine in this process does, (steps, episodes, C)."""
    state, found = None, []
    for step in steps:
        actions = engine.act(step, state=state)
        state = actions.state
        found.append(actions.control)
    return np.stack(found)


def remote(ask: Ask, steps: Sequence[dict[str, np.ndarray]], names: Sequence[str]) -> np.ndarray:
    """The same by answers, each step with the states of the one before."""
    states: list[str | None] = [None] * len(next(iter(steps[0].values())))
    found = []
    for step in steps:
        rows = [row | ({"state": state} if state else {}) for row, state in zip(rows_of(step), states, strict=True)]
        actions = ask(rows)
        states = [action["state"] for action in actions]
        found.append([[action[name] for name in names] for action in actions])
    return np.array(found, dtype=np.float32)
