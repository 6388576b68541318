"""Policies that Stable-Baselines3 trained on VecFrameStack act in the plain environment as they did on stacks."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium
import msgspec
import numpy as np
import pytest
from sb3_policies import CHOICES, CHOOSE, DRIVE, IMAGE, PEDALS, SMALL_CNN
from stable_baselines3 import PPO
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv, VecFrameStack, VecNormalize

from carla_mlflow import ExportError
from carla_mlflow.contract.field_card import FieldCard
from training_export.evaluation.own_driving import Outcome, drive_all
from training_export.evaluation.own_env import OwnEnv
from training_export.evaluation.own_evaluation import PolicyDriver
from training_export.export.export import export_policy
from training_export.racetrack.conditions import Conditions
from training_export.sources.draft import CardDraft
from training_export.sources.sb3.source import from_sb3

TICKS = [-2, -1, 0]
VECTOR = gymnasium.spaces.Box(np.float32([-2, -1, 0.5]), np.float32([2, 1, 5]))


class Seeded(gymnasium.Env[Any, Any]):
    """Observations that follow from the seed; each episode has seven steps, and the actions are kept."""

    def __init__(self, observation: Any, action: Any) -> None:
        self.observation_space, self.action_space = observation, action
        self.taken: list[Any] = []

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.steps = 0
        return self._see(), {}

    def step(self, action: Any) -> Any:
        self.taken.append(action)
        self.steps += 1
        return self._see(), 0.0, self.steps == 7, False, {"crash": False}

    def _see(self) -> Any:
        space = self.observation_space
        drawn = self.np_random.uniform(space.low, space.high)
        return drawn.astype(space.dtype)


def trained(path: Path, envs: VecEnv, policy: str, **more: Any) -> PPO:
    model = PPO(policy, envs, n_steps=16, batch_size=16, n_epochs=2, seed=0, device="cpu", **more)
    model.learn(32)
    model.save(path)
    return model


def stacked(draft: CardDraft, field: FieldCard) -> CardDraft:
    history = msgspec.structs.replace(field, history=TICKS, history_start="zeros")
    return msgspec.structs.replace(draft, observation={"observation": history})


@pytest.mark.parametrize(
    ("space", "action", "policy", "draft", "more"),
    [
        # Stable-Baselines3's own bounds of a stack are not those of its elements: (-2, -2, -2, -1, …) for three frames
        (VECTOR, PEDALS, "MlpPolicy", stacked(DRIVE, FieldCard("float32", [9], -2.0, 5.0)), {}),
        (
            IMAGE,
            CHOICES,
            "CnnPolicy",
            stacked(CHOOSE, FieldCard("uint8", [9, 36, 40], 0, 255)),
            {"policy_kwargs": SMALL_CNN},
        ),
    ],
    ids=["vector", "image"],
)
def test_in_the_plain_environment_it_acts_as_it_was_trained_to(
    tmp_path: Path, space: Any, action: Any, policy: str, draft: CardDraft, more: dict[str, Any]
):
    make: Callable[[], Seeded] = lambda: Seeded(space, action)  # noqa: E731
    model = trained(tmp_path / "model.zip", VecFrameStack(DummyVecEnv([make]), 3), policy, **more)
    engine = export_policy(from_sb3(tmp_path / "model.zip", draft, None, True, True), "stacked", "0.1.0", "").engine

    plain, conditions = Seeded(space, action), Conditions(episodes=3, first_seed=100)
    drive_all(OwnEnv(plain, "seeded", "1"), PolicyDriver(engine, plain), conditions, Outcome(None, "crash"), "ours")

    theirs: list[Any] = []
    for seed in conditions.seeds:
        envs = model._wrap_env(VecFrameStack(DummyVecEnv([make]), 3), verbose=0)  # with the channels first
        envs.seed(seed)
        seen = envs.reset()
        for _ in range(7):
            theirs.append(model.predict(seen, deterministic=True)[0])
            seen, _, _, _ = envs.step(theirs[-1])
    np.testing.assert_allclose(np.stack(plain.taken), np.concatenate(theirs), rtol=1e-4, atol=1e-5)


def test_statistics_of_single_frames_are_refused_in_words(tmp_path: Path):
    inner = VecNormalize(DummyVecEnv([lambda: Seeded(VECTOR, PEDALS)]))
    trained(tmp_path / "model.zip", VecFrameStack(inner, 3), "MlpPolicy")
    inner.save(str(tmp_path / "statistics.pkl"))
    draft = stacked(DRIVE, FieldCard("float32", [9], -2.0, 5.0))
    with pytest.raises(ExportError, match=r"of single frames, whose zeros .* train with VecNormalize around"):
        from_sb3(tmp_path / "model.zip", draft, tmp_path / "statistics.pkl", True)
