"""Nothing is judged on an episode that taught it, whatever seeds a person asks for."""

from __future__ import annotations

import numpy as np
from gymnasium.wrappers import FlattenObservation
from numpy.typing import NDArray
from stable_baselines3.common.vec_env import DummyVecEnv

from carla_mlflow.cli import natural
from carla_mlflow.contract.seeds import GOLDEN_FIRST, SCALER_FIRST, TRAINING_FIRST
from training_export.racetrack.conditions import Conditions
from training_export.racetrack.env import Racetrack
from training_export.training.checkpoint import TrainingConfig
from training_export.training.train import make_agent

ENVIRONMENTS = 4


def track() -> FlattenObservation:
    return FlattenObservation(Racetrack(traffic=4))


def first_observations(seed: int) -> NDArray[np.float32]:
    """What the learner sees first in each of its environments."""
    venv = DummyVecEnv([track] * ENVIRONMENTS)
    make_agent(TrainingConfig(seed=seed), venv)
    return np.asarray(venv.reset())


def test_training_with_an_evaluations_seed_meets_none_of_its_episodes():
    conditions = Conditions(episodes=ENVIRONMENTS)
    trained = first_observations(seed=conditions.first_seed)
    env = track()
    judged = np.stack([env.reset(seed=seed)[0] for seed in conditions.seeds])
    assert not (trained[:, None] == judged).all(axis=2).any()
    np.testing.assert_array_equal(first_observations(seed=conditions.first_seed), trained)  # still seeded


def test_no_seed_that_the_commands_take_reaches_those_of_training_scaler_or_golden_observations():
    last = Conditions(episodes=2**31, first_seed=natural("2147483647")).seeds[-1]
    assert last < TRAINING_FIRST
    largest = natural("2147483647") + 2**31  # a training's seed, and the steps that a resumed one adds
    assert TRAINING_FIRST + largest < SCALER_FIRST
    assert SCALER_FIRST + largest < GOLDEN_FIRST
