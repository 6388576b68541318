"""Where a sampled action's chance comes from.

A sampled action is a function of (digest, seed, the row's observation) alone: the row's random numbers come
from Philox, a counter-based generator, keyed by a hash of the three. Neither the batch, nor the place in it,
nor the process plays a part, so a sample can be drawn again years later.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import SpecError

MAX_SEED = 2**63 - 1
"""The largest seed: MLflow's parameter type is a signed 64-bit integer."""


def checked_seed(seed: Any) -> int:
    """The seed, or one drawn when it is None.

    Raises:
        SpecError: it is no whole number in [0, 2**63).
    """
    if seed is None:
        return secrets.randbelow(2**53)  # as large as a JSON reader keeps exact
    if isinstance(seed, bool) or not isinstance(seed, int | np.integer) or not 0 <= seed <= MAX_SEED:
        raise SpecError("seed", "expected a whole number from 0 to 2**63 - 1")
    return int(seed)


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
