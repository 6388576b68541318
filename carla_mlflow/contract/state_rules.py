"""The rules for a card's `state` section, each with the message for a section that breaks it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from .action_card import ActionCard
from .array_bounds import MAX_DIMENSIONS, NAME
from .card_sections import StateCard
from .heads import PARAMETERS
from .memory import RESET, next_name
from .state_token import STATE

MAX_STATES = 16
MAX_STATE_ELEMENTS = 1 << 16
"""The limit of all states of one row together, 256 KiB: they travel with every request and every answer."""


def state_problems(states: Mapping[str, StateCard], observation: Mapping[str, Any], action: ActionCard) -> list[str]:
    """What is wrong with a `state` section, in words.

    Args:
        states: the section.
        observation: the observation section, with whose names those of the states may not collide.
        action: likewise, for the graph's outputs.
    """
    if not 1 <= len(states) <= MAX_STATES:
        return [
            f"state: expected one to {MAX_STATES} states, got {len(states)}; a policy without memory has no `state`"
        ]
    problems = [problem for name, state in states.items() for problem in _state_problems(name, state)]
    inside = {"features", "raw", RESET, *PARAMETERS.get(action.head, ())}
    for name in states:
        if name in inside | set(observation) or next_name(name) in inside | set(observation) | set(states):
            problems.append(
                f"state.{name}: {name} and {next_name(name)} are names of the graph, which has another tensor of one "
                "of these names; choose another one"
            )
    if RESET in observation:
        problems.append(f"observation.{RESET}: this name is used inside the graph; choose another one")
    if STATE in observation:
        problems.append("observation.state: a request's rows have the state token under this name; choose another one")
    if sum(math.prod(state.shape) for state in states.values()) > MAX_STATE_ELEMENTS:
        problems.append(f"state: more than {MAX_STATE_ELEMENTS:,} elements, which would travel with every request")
    return problems


def _state_problems(name: str, state: StateCard) -> Iterator[str]:
    if not NAME.fullmatch(name):
        yield f"state {name!r}: a name is a letter or _, then up to 63 letters, digits or _"
    if len(state.shape) > MAX_DIMENSIONS or any(size < 1 for size in state.shape):
        shape = state.shape[: MAX_DIMENSIONS + 1]
        yield f"state.{name}: shape {shape}: expected at most {MAX_DIMENSIONS} sizes, each at least 1"
    given = state.initial if isinstance(state.initial, list) else [state.initial]
    if isinstance(state.initial, list) and (not state.shape or len(state.initial) != state.shape[-1]):
        width = state.shape[-1] if state.shape else 1
        yield f"state.{name}: initial has {len(state.initial)} values for {width} elements"
    with np.errstate(over="ignore"):
        if not np.isfinite(np.array(given, dtype=np.float32)).all():
            yield f"state.{name}: initial has to be finite in float32"
