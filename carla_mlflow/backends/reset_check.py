"""Checks that a graph with a memory begins an episode as its card says."""

from __future__ import annotations

import numpy as np

from ..contract.memory import Memory
from ..errors import ArtifactError
from .backend import Arrays, Backend


def check_reset(graph: Backend, inputs: Arrays, memory: Memory) -> None:
    """Runs the graph on an example from three starts, of which it has to answer the first two alike.

    With `reset`, it ignores the incoming states: other states give the same answer. That answer is also the one to the
    card's initial states without `reset`.

    Args:
        graph: loaded.
        inputs: an example of its inputs; `reset` and the states come last, in the card's order.
        memory: of the card.

    Raises:
        ArtifactError: it begins differently.
    """
    count = len(memory.shapes)
    given, rows = list(inputs[: -count - 1]), len(inputs[0])
    begins, goes_on = np.ones(rows, dtype=np.float32), np.zeros(rows, dtype=np.float32)
    initial = list(memory.initial(rows).values())
    other = [array + np.float32(0.5) for array in initial]
    begun = [np.array(output) for output in graph([*given, begins, *other])]
    for problem, states, reset in (
        ("does not ignore its states where `reset` is 1", initial, begins),
        ("begins with other states than the card's `initial`", initial, goes_on),
    ):
        answers = graph([*given, reset, *states])
        if not all(np.allclose(one, two, equal_nan=True) for one, two in zip(begun, answers, strict=True)):
            raise ArtifactError(f"the graph {problem}: expected `where(reset, initial, state)` before the network")
