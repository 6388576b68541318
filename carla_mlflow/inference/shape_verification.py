"""Verifies which batch shapes give a row the same bits, on a sample of observations, when the policy is loaded.

No sample can show it for every observation. This one holds observations from driving, to which a network that saturates
at large values still gives many different answers, and values of every magnitude up to the bounds, which reveal a
network that mixes rows only beyond some value. A network with few different answers to all of these is run row by row.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..contract.memory import RESET
from ..contract.specs import ObservationSpec

Observations = Mapping[str, NDArray[Any]]
RunInShape = Callable[[int, Observations], NDArray[np.float32]]
"""(rows of a batch shape, observations) → the graph's outputs, computed in batches of that shape only."""

ROWS, ORDERS = 1024, 3
LARGE_SAMPLE, MIN_LARGE_ROWS, MAX_LARGE_ROWS = 16 << 20, 64, 128
"""Elements of a sample of large rows, at most, and how many rows it has at least and at most."""
FEW = 32
"""Rows of the sample on which a shape is tried first: most that round differently show it there."""
MIN_ANSWERS = 1 / 8
"""The least share of different answers to the sample: equal bits show nothing when all rows get the same answer."""
BEGINNING = 1 / 8
"""The share of the sample's rows that begin an episode, of a policy with a memory."""


def verified_shapes(shapes: tuple[int, ...], reference: int, sample: Observations, run: RunInShape) -> tuple[int, ...]:
    """The batch shapes that give every row of a sample the reference's bits, at any position in the batch.

    Args:
        shapes: to be tried.
        reference: the shape whose bits count as the policy's. If its own bits depend on a row's position, 1 takes its
            place: a single row has no other rows beside it and only one position.
        sample: from `verification_sample`.
        run: runs the graph.
    """
    rng, rows = np.random.default_rng(0), len(next(iter(sample.values())))
    orders = [rng.permutation(rows) for _ in range(ORDERS)]
    few = slice(None, None, rows // FEW)
    if reference == 1:  # of large rows, of which the whole sample takes long: first whether there is anything to verify
        first = _answers(run(1, _rows(sample, few)))
        shapes = tuple(shape for shape in shapes if shape > 1 and _answers(run(shape, _rows(sample, few))) == first)
        if not shapes:
            return (1,)
    expected = _bits(reference, sample, orders, run)
    if expected is None:
        reference = 1
        expected = _bits(reference, sample, orders, run)
    if expected is None or _are_few(expected):
        return (1,)
    others = [shape for shape in shapes if shape != reference]
    others = [shape for shape in others if _answers(run(shape, _rows(sample, few))) == expected[few]]
    return tuple(sorted([reference, *(s for s in others if _bits(s, sample, orders, run, expected))]))


def sample_rows(specs: ObservationSpec) -> int:
    """How many rows a sample has; 0 where they are so large that too few fit into memory."""
    if not specs.is_large:
        return ROWS
    rows = LARGE_SAMPLE // sum(int(np.prod(spec.shape, dtype=np.int64)) for spec in specs) // 4 * 4
    return min(MAX_LARGE_ROWS, rows) if rows >= MIN_LARGE_ROWS else 0


def verification_sample(
    specs: ObservationSpec, golden: Observations, far: bool, memory: bool = False
) -> dict[str, NDArray[Any]]:
    """`sample_rows` observations, a quarter each between golden ones, uniform, of every magnitude, and at the bounds.

    Args:
        specs: of the observations, and of `reset` and the states.
        golden: observations that the policy saw in training, and the states in which it saw them.
        far: False draws uniform rows in place of every magnitude, since a preprocessor outside the graph may refuse
            values that no car ever sees.
        memory: whether the policy has one: most rows then go on with their states, whose answers show more.
    """
    rng, rows = np.random.default_rng(0), sample_rows(specs)
    quarter = rows // 4
    seen = len(golden[specs[0].name])
    first, second, share = rng.integers(0, seen, quarter), rng.integers(0, seen, quarter), rng.random(quarter)
    sample = {}
    for spec in specs:
        one, two = golden[spec.name][first].astype(np.float64), golden[spec.name][second]
        between = one + share.reshape(-1, *[1] * len(spec.shape)) * (two - one)
        between = between if spec.choices is None else np.rint(between)
        parts = [np.clip(between, spec.lows, spec.highs).astype(spec.dtype), spec.sample(rng, quarter)]
        parts += [spec.decades(rng, quarter) if far else spec.sample(rng, quarter), spec.corners(rng, quarter)]
        sample[spec.name] = np.concatenate(parts)
    if memory:
        sample[RESET] = (rng.random(rows) < BEGINNING).astype(np.float32)
    return sample


def _bits(
    shape: int,
    sample: Observations,
    orders: list[NDArray[np.intp]],
    run: RunInShape,
    expected: list[bytes] | None = None,
) -> list[bytes] | None:
    """Each row's answer in batches of one shape; None when it depends on the row's position, or is not the expected.

    The position of rows with few different answers is left out, as such a network is run row by row in any case.
    """
    answers = _answers(run(shape, sample))
    if expected not in (None, answers):
        return None
    for order in orders if shape > 1 and not _are_few(answers) else ():
        shuffled = _answers(run(shape, _rows(sample, order)))
        if shuffled != [answers[row] for row in order]:
            return None
    return answers


def _are_few(answers: list[bytes]) -> bool:
    return len(set(answers)) < MIN_ANSWERS * len(answers)


def _rows(sample: Observations, rows: slice | NDArray[np.intp]) -> Observations:
    return {name: array[rows] for name, array in sample.items()}


def _answers(outputs: NDArray[np.float32]) -> list[bytes]:
    # Values that are not finite are never used as actions, so all of them count as equal.
    usable = np.ascontiguousarray(np.where(np.isfinite(outputs), outputs, np.float32(np.nan)))
    return [row.tobytes() for row in usable]
