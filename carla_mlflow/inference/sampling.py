"""The random numbers of sampled actions.

A sampled action is a function of (digest, seed, the row's observation) only: the row's random numbers come from
Philox, a counter-based generator, keyed by a hash of the three. They depend neither on the batch, nor on the position
in it, nor on the process, so a sample can be reproduced years later.
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
    """The seed, or a random one when it is None.

    Raises:
        SpecError: it is not a whole number in [0, 2**63).
    """
    if seed is None:
        return secrets.randbelow(2**53)  # JSON readers keep integers up to this exact
    if isinstance(seed, bool) or not isinstance(seed, int | np.integer) or not 0 <= seed <= MAX_SEED:
        raise SpecError("seed", "expected a whole number from 0 to 2**63 - 1")
    return int(seed)


def row_generators(
    digest: str, seed: int, observations: Sequence[NDArray[np.generic]]
) -> Iterator[np.random.Generator]:
    """One generator per row, keyed by digest, seed and the row's bytes.

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
