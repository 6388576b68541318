from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

from carla_mlflow.errors import ExportError
from carla_mlflow.preprocessing.modules import Normalise


class Standing(gymnasium.Env[Any, Any]):
    """Does nothing but have an observation space."""

    action_space = gymnasium.spaces.Discrete(2)

    def __init__(self, space: gymnasium.spaces.Box) -> None:
        self.observation_space = space

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        return self.observation_space.sample(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        return self.observation_space.sample(), 0.0, False, False, {}


def vec_normalize(space: gymnasium.spaces.Box, **options: Any) -> VecNormalize:
    normaliser = VecNormalize(DummyVecEnv([lambda: Standing(space)]), **options)
    normaliser.reset()
    for _ in range(5):
        normaliser.step(np.array([0]))
    return normaliser


def normalise_as(normaliser: VecNormalize) -> Normalise:
    statistics = normaliser.obs_rms
    return Normalise(statistics.mean, statistics.var, normaliser.epsilon, normaliser.clip_obs)


@pytest.mark.parametrize(
    ("space", "options"),
    [
        (gymnasium.spaces.Box(-1e3, 1e3, (4,), np.float32), {}),
        (gymnasium.spaces.Box(-1, 1, (2, 3), np.float32), {"clip_obs": 0.5, "epsilon": 1e-2}),
        (gymnasium.spaces.Box(0, 255, (3, 4, 5), np.uint8), {"clip_obs": 1.0}),
    ],
    ids=["flat", "matrix", "image"],
)
def test_an_observation_is_normalised_as_vec_normalize_does(space: gymnasium.spaces.Box, options: dict[str, Any]):
    normaliser = vec_normalize(space, **options)
    rows = np.stack([space.sample() for _ in range(20)] + [np.zeros(space.shape, space.dtype), space.high])
    module = normalise_as(normaliser)
    expected = normaliser.normalize_obs(rows)
    assert expected.dtype == np.float32
    np.testing.assert_array_equal(module(torch.from_numpy(rows)).numpy(), expected)
    example = torch.from_numpy(rows[:3])
    np.testing.assert_array_equal(torch.jit.trace(module, example)(torch.from_numpy(rows)).numpy(), expected)


def test_statistics_of_different_shapes_are_refused():
    with pytest.raises(ExportError, match="VecNormalize"):
        Normalise(np.zeros(3), np.ones(4), 1e-8, 10.0)
