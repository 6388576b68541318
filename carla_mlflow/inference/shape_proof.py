"""Which tile shapes give a row the same bits: shown on a sample, as the policy is loaded.

No sample shows it for every observation. This one holds driving itself, the bounds, and every magnitude between:
a network that saturates far out still answers its usual rows in many ways, and one that looks at other rows only
beyond some value is asked beyond it. A network that gives few answers to all that is run one row at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..contract.specs import ObservationSpec

Observations = Mapping[str, NDArray[Any]]
InTiles = Callable[[int, Observations], NDArray[np.float32]]
"""Rows of a tile, observations → what the graph gives, one forward after the other in tiles of that shape."""

ROWS, ORDERS = 1024, 3
MIN_ANSWERS = ROWS // 8
"""Different answers to the sample: equal bits say nothing where all rows get the same."""


def proven_shapes(shapes: tuple[int, ...], reference: int, sample: Observations, run: InTiles) -> tuple[int, ...]:
    """The shapes that give every row of a sample the reference's bits, in whatever place of the tile.

    Args:
        shapes: to be tried.
        reference: rows of the tile whose bits are the policy's; 1 takes its place when it fails itself, since one
            row has no company and no place.
        sample: from `proof_sample`.
        run: asks the graph.
    """
    rng = np.random.default_rng(0)
    orders = [rng.permutation(ROWS) for _ in range(ORDERS)]
    expected = _bits(reference, sample, orders, run)
    if expected is None:
        reference = 1
        expected = _bits(reference, sample, orders, run)
    if expected is None or len(set(expected)) < MIN_ANSWERS:
        return (1,)
    return tuple(sorted({reference} | {shape for shape in shapes if _bits(shape, sample, orders, run) == expected}))


def proof_sample(specs: ObservationSpec, golden: Observations, far: bool) -> dict[str, NDArray[Any]]:
    """ROWS observations: a quarter each between golden ones, uniform, of every magnitude, and at the bounds.

    Args:
        specs: of the observations.
        golden: what the policy saw in training.
        far: False leaves out magnitudes; a preprocessor outside the graph may refuse what no car ever sees.
    """
    rng = np.random.default_rng(0)
    quarter = ROWS // 4
    seen = len(golden[specs[0].name])
    first, second, share = rng.integers(0, seen, quarter), rng.integers(0, seen, quarter), rng.random(quarter)
    sample = {}
    for spec in specs:
        one, two = golden[spec.name][first].astype(np.float64), golden[spec.name][second]
        between = one + share.reshape(-1, *[1] * len(spec.shape)) * (two - one)
        parts = [np.clip(between, spec.lows, spec.highs).astype(spec.dtype), spec.sample(rng, quarter)]
        parts += [spec.decades(rng, quarter) if far else spec.sample(rng, quarter), spec.corners(rng, quarter)]
        sample[spec.name] = np.concatenate(parts)
    return sample


def _bits(shape: int, sample: Observations, orders: list[NDArray[np.intp]], run: InTiles) -> list[bytes] | None:
    """Each row's answer in tiles of one shape; None when that depends on a row's place."""
    found = _answers(run(shape, sample))
    for order in orders if shape > 1 else ():
        shuffled = _answers(run(shape, {name: array[order] for name, array in sample.items()}))
        if shuffled != [found[row] for row in order]:
            return None
    return found


def _answers(outputs: NDArray[np.float32]) -> list[bytes]:
    # What is no number is no action either, so that one is as good as another.
    usable = np.ascontiguousarray(np.where(np.isfinite(outputs), outputs, np.float32(np.nan)))
    return [row.tobytes() for row in usable]
