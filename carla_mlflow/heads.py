"""Distribution parameters → an action: the mode inside the exported graph, samples here in numpy.

A sampled action is a function of (digest, seed, the row's observation) alone: the row's random numbers come
from Philox, a counter-based generator, keyed by a hash of the three. Neither the batch, nor the place in it,
nor the process plays a part, so a sample can be drawn again years later.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]

PARAMETERS: dict[str, tuple[str, ...]] = {
    "deterministic": (),
    "gaussian": ("mean", "std"),
}
"""For each head, what the graph returns after `raw`, in order; each (B, A)."""


MAX_SEED = 2**63 - 1
"""The largest seed: MLflow's parameter type is a signed 64-bit integer."""


def row_generators(
    digest: str, seed: int, observations: Sequence[NDArray[np.generic]]
) -> Iterator[np.random.Generator]:
    """One generator a row, keyed by digest, seed and the row's bytes.

    Args:
        digest: of the artifact.
        seed: of the request, in [0, 2**63).
        observations: the arrays in the card's order, each (B, *shape).
    """
    prefix = hashlib.blake2b(f"{digest}/{seed}/".encode(), digest_size=32).digest()
    for row in range(len(observations[0])):
        key = hashlib.blake2b(prefix, digest_size=16)
        for array in observations:
            key.update(array[row].tobytes())
        yield np.random.Generator(np.random.Philox(key=int.from_bytes(key.digest(), "little")))


def sample(
    head: str,
    parameters: Mapping[str, Array],
    low: Array,
    high: Array,
    generators: Iterator[np.random.Generator],
) -> Array:
    """Draws one raw action a row.

    Args:
        head: a key of PARAMETERS other than `deterministic`, which has nothing to draw from.
        parameters: what the graph returned, each float32 (B, A).
        low: smallest raw action, (A,).
        high: largest raw action, (A,).
        generators: one a row.

    Returns:
        float32 (B, A) inside [low, high]. A gaussian is clipped to the bounds, as Stable-Baselines3's `predict` does.
    """
    if head != "gaussian":
        raise ValueError(f"the head {head} has no distribution to sample from")
    mean, std = parameters["mean"], parameters["std"]
    noise = np.stack([generator.standard_normal(mean.shape[1], dtype=np.float32) for generator in generators])
    return np.asarray(np.clip(mean + std * noise, low, high))
