from __future__ import annotations

import numpy as np
import pytest

from carla_mlflow.errors import SpecError
from carla_mlflow.inference.sampling import checked_seed, row_generators


def test_a_rows_generator_depends_on_digest_seed_and_every_byte_of_its_observation():
    def first(digest: str, seed: int, *arrays: np.ndarray) -> float:
        return next(row_generators(digest, seed, arrays)).random()

    row, image = np.ones((1, 3), np.float32), np.zeros((1, 2, 2), np.uint8)
    base = first("a", 1, row, image)
    assert base == first("a", 1, row.copy(), image.copy())
    image[0, 1, 1] = 1
    assert len({base, first("b", 1, row), first("a", 2, row), first("a", 1, row * 2), first("a", 1, row, image)}) == 5


@pytest.mark.parametrize("seed", [-1, 2**63, 1.0, True, "7"])
def test_a_seed_that_is_none_is_refused(seed):
    with pytest.raises(SpecError, match="seed"):
        checked_seed(seed)


def test_a_drawn_seed_stays_exact_in_json():
    assert 0 <= checked_seed(None) < 2**53
