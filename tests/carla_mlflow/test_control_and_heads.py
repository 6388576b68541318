from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from carla_mlflow.control import to_control
from carla_mlflow.heads import row_generators, sample


@given(
    st.floats(width=32, allow_nan=False, allow_infinity=False),
    st.floats(width=32, allow_nan=False, allow_infinity=False),
)
def test_control_is_always_inside_its_bounds(acceleration: float, steer: float):
    raw = np.array([[steer, acceleration]], dtype=np.float32)
    throttle, brake, steering = to_control("acceleration_steer", ("steer", "acceleration"), raw)[0]
    assert 0 <= throttle <= 1
    assert 0 <= brake <= 1
    assert -1 <= steering <= 1
    assert throttle == 0 or brake == 0


def test_positive_acceleration_is_throttle_and_negative_is_brake():
    raw = np.array([[0.5, 0.1], [-0.25, -0.1], [0.0, -0.0]], dtype=np.float32)
    control = to_control("acceleration_steer", ("acceleration", "steer"), raw)
    np.testing.assert_array_equal(control, np.array([[0.5, 0, 0.1], [0, 0.25, -0.1], [0, 0, 0]], dtype=np.float32))
    assert not np.signbit(control[2]).any()  # JSON would show -0.0


def test_samples_of_a_gaussian_follow_mean_and_std_and_are_clipped():
    rows = 20_000
    mean, std = np.full((rows, 2), [0.2, 5.0], np.float32), np.full((rows, 2), [0.1, 1.0], np.float32)
    observations = [np.arange(rows, dtype=np.float32)]
    low, high = np.full(2, -1, np.float32), np.ones(2, np.float32)
    drawn = sample("gaussian", {"mean": mean, "std": std}, low, high, row_generators("d", 1, observations))
    assert drawn.dtype == np.float32
    assert abs(drawn[:, 0].mean() - 0.2) < 0.005
    assert abs(drawn[:, 0].std() - 0.1) < 0.005
    assert drawn[:, 1].max() == 1.0


def test_a_rows_generator_depends_on_digest_seed_and_every_byte_of_its_observation():
    def first(digest: str, seed: int, *arrays: np.ndarray) -> float:
        return next(row_generators(digest, seed, arrays)).random()

    row, image = np.ones((1, 3), np.float32), np.zeros((1, 2, 2), np.uint8)
    base = first("a", 1, row, image)
    assert base == first("a", 1, row.copy(), image.copy())
    image[0, 1, 1] = 1
    assert len({base, first("b", 1, row), first("a", 2, row), first("a", 1, row * 2), first("a", 1, row, image)}) == 5


def test_a_deterministic_head_has_nothing_to_sample():
    with pytest.raises(ValueError, match="no distribution"):
        sample("deterministic", {}, np.zeros(1), np.ones(1), iter(()))
