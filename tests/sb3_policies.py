"""Tiny policies that Stable-Baselines3 itself trains and saves, for the tests of from_sb3."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from gymnasium.spaces import Box, Dict, Discrete, MultiBinary, MultiDiscrete
from msgspec.structs import replace
from stable_baselines3.common.policies import ActorCriticPolicy, MultiInputActorCriticPolicy
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

from carla_mlflow.contract.action_card import Control
from carla_mlflow.contract.field_card import FieldCard
from training_export.sources.draft import ActionDraft, CardDraft
from training_export.sources.sb3.algorithms import ALGORITHMS

VECTOR = Box(np.float32([-2, -1, 0]), np.float32([2, 1, 5]))
OPEN = Box(-np.inf, np.inf, (4,))
DOUBLE = Box(-1.0, 1.0, (3,), np.float64)
CARTPOLE = Box(np.float32([-4.8, -np.inf, -0.42, -np.inf]), np.float32([4.8, np.inf, 0.42, np.inf]))
IMAGE = Box(0, 255, (36, 40, 3), np.uint8)  # as cameras give it; Stable-Baselines3 puts the channels first
FIRST = Box(0, 255, (3, 36, 36), np.uint8)
MIXED = Dict({"speed": Box(0, 30, (2,)), "camera": FIRST})
PAIR = Dict({"speed": Box(0, 30, (2,)), "beams": Box(0, 1, (3,))})
SOURCES = Dict({"command": Discrete(6), "lidar-front": Box(0, 30, (2,)), "rows": MultiDiscrete([3, 2])})
PEDALS = Box(np.float32([-3, -0.7]), np.float32([2, 0.7]))
CHOICES = Discrete(4)
SWITCHES = MultiDiscrete([3, 2])
FLAGS = MultiBinary(3)
ONE = Box(-1.0, 1.0, (1,))
SCALES = {"full_throttle": 2.0, "full_brake": -3.0, "full_right": 0.7}
DRIVE = CardDraft(ActionDraft("acceleration_steer", ["acceleration", "steer"], rate_hz=10, **SCALES))
CHOOSE = CardDraft(ActionDraft("table", table=[Control(t, 1 - t, 0) for t in (0, 0.3, 0.6, 1)]))
NAMED = CardDraft(ActionDraft("named", choices=["A", "B", "C", "D"], fallback={"choice": "B"}))
SWITCH = CardDraft(ActionDraft("named", ["gear", "lights"], fallback={"gear": 0.0, "lights": 1.0}))
FLAG = CardDraft(ActionDraft("named", ["one", "two", "three"], fallback={"one": 0.0, "two": 0.0, "three": 1.0}))
ON_POLICY = {"n_steps": 32}
OFF_POLICY = {"buffer_size": 200, "learning_starts": 16, "learning_rate": 1e-4, "batch_size": 16}
SMALL_CNN = {"features_extractor_kwargs": {"features_dim": 16}}
SMALL_BOTH = {"features_extractor_kwargs": {"cnn_output_dim": 16}}


class Toy(gym.Env[Any, Any]):
    """Gives observations at random; actions change nothing."""

    def __init__(self, observation: gym.Space[Any], action: gym.Space[Any]) -> None:
        self.observation_space, self.action_space = copy.deepcopy(observation), action
        self.observation_space.seed(0)  # its own, so that no other policy's training plays a part

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        return self.observation_space.sample(), {}

    def step(self, action: Any) -> Any:
        return (
            self.observation_space.sample(),
            -float(np.square(action).sum()),
            bool(self.np_random.random() < 0.05),
            False,
            {},
        )


@dataclass(frozen=True)
class Case:
    algorithm: str
    policy: Any
    observation: gym.Space[Any]
    action: gym.Space[Any] = field(default_factory=lambda: PEDALS)
    normalise: dict[str, Any] | None = None
    more: dict[str, Any] = field(default_factory=dict)
    policy_kwargs: dict[str, Any] = field(default_factory=dict)
    card: CardDraft | None = None


class OwnFeatures(BaseFeaturesExtractor):
    """Takes the keys as they come, so that their order counts."""

    def __init__(self, observation_space: Dict) -> None:
        super().__init__(observation_space, 4)
        self.layer = torch.nn.Linear(2 + 3 * 36 * 36, 4)

    def forward(self, observations: dict[str, torch.Tensor]) -> torch.Tensor:
        return torch.tanh(self.layer(torch.cat([array.flatten(1) for array in observations.values()], dim=1)))


class OwnLayers(torch.nn.Module):
    latent_dim_pi, latent_dim_vf = 4, 4

    def forward_actor(self, features: torch.Tensor) -> torch.Tensor:
        return features * 2

    def forward_critic(self, features: torch.Tensor) -> torch.Tensor:
        return features

    def forward(self, features: torch.Tensor) -> Any:
        return self.forward_actor(features), features


class OwnPolicy(MultiInputActorCriticPolicy):
    def _build_mlp_extractor(self) -> None:
        self.mlp_extractor = OwnLayers()


class Remembering(ActorCriticPolicy):
    def predict(self, *args: Any, **kwargs: Any) -> Any:
        return super().predict(*args, **kwargs)[0], (np.zeros(1),)


CASES = {
    "ppo-pair": Case("PPO", "MultiInputPolicy", PAIR, normalise={}),
    "ppo": Case("PPO", "MlpPolicy", VECTOR),
    "ppo-float64": Case("PPO", "MlpPolicy", DOUBLE, normalise={}),
    "ppo-mixed": Case(
        "PPO", "MultiInputPolicy", MIXED, normalise={"norm_obs_keys": ["speed"]}, policy_kwargs=SMALL_BOTH
    ),
    "ppo-squashed-gsde": Case(
        "PPO", "MlpPolicy", VECTOR, more={"use_sde": True}, policy_kwargs={"squash_output": True}
    ),
    "a2c-gsde": Case("A2C", "MlpPolicy", VECTOR, more={"use_sde": True}),
    "a2c-choices": Case("A2C", "MlpPolicy", OPEN, CHOICES, normalise={"clip_obs": 2.0}),
    "ppo-image": Case("PPO", "CnnPolicy", IMAGE, CHOICES, policy_kwargs=SMALL_CNN),
    "sac": Case("SAC", "MlpPolicy", OPEN, normalise={}),
    "sac-gsde": Case("SAC", "MlpPolicy", VECTOR, more={"use_sde": True}),
    "td3": Case("TD3", "MlpPolicy", OPEN, normalise={"norm_obs": False}),
    "ddpg-image": Case("DDPG", "CnnPolicy", IMAGE, policy_kwargs=SMALL_CNN),
    "ppo-own": Case("PPO", OwnPolicy, MIXED, policy_kwargs={"features_extractor_class": OwnFeatures}),
    "ppo-normalised-image": Case(
        "PPO", "CnnPolicy", FIRST, CHOICES, normalise={}, policy_kwargs={"normalize_images": False, **SMALL_CNN}
    ),
    "dqn": Case("DQN", "MlpPolicy", VECTOR, CHOICES, normalise={}),
    "dqn-open": Case("DQN", "MlpPolicy", CARTPOLE, CHOICES),
    "sac-open": Case("SAC", "MlpPolicy", CARTPOLE, normalise={}),
    "td3-open": Case("TD3", "MlpPolicy", CARTPOLE),
    "trpo": Case("TRPO", "MlpPolicy", VECTOR, normalise={}),
    "ars": Case("ARS", "LinearPolicy", VECTOR, normalise={}, more={"n_delta": 2, "n_eval_episodes": 1}),
    "tqc": Case("TQC", "MlpPolicy", VECTOR, normalise={}),
    "tqc-gsde": Case("TQC", "MlpPolicy", VECTOR, more={"use_sde": True}),
    "crossq": Case("CrossQ", "MlpPolicy", VECTOR, normalise={}),
    "qrdqn": Case("QRDQN", "MlpPolicy", VECTOR, CHOICES, normalise={}),
    "ppo-sources": Case(
        "PPO", "MultiInputPolicy", SOURCES, normalise={"norm_obs_keys": ["lidar-front"]}, policy_kwargs=SMALL_BOTH
    ),
    "dqn-named": Case("DQN", "MlpPolicy", VECTOR, CHOICES, card=NAMED),
    "ppo-named": Case("PPO", "MlpPolicy", VECTOR, CHOICES, card=NAMED),
    "ppo-switches": Case("PPO", "MlpPolicy", OPEN, SWITCHES, card=SWITCH),
    "a2c-flags": Case("A2C", "MlpPolicy", VECTOR, FLAGS, card=FLAG),
    "ppo-acceleration": Case("PPO", "MlpPolicy", VECTOR, ONE, card=CardDraft(ActionDraft("acceleration"))),
    "sac-steer": Case("SAC", "MlpPolicy", VECTOR, ONE, card=CardDraft(ActionDraft("steer"))),
    "dqn-mixed": Case("DQN", "MultiInputPolicy", MIXED, CHOICES, policy_kwargs=SMALL_BOTH),
}

LOOKED_AT = {
    "dqn-normalised-image": Case(
        "DQN", "CnnPolicy", FIRST, CHOICES, normalise={}, policy_kwargs={"normalize_images": False, **SMALL_CNN}
    ),
}
"""Policies of which only the zip counts, not what they do."""


@dataclass(frozen=True)
class Trained:
    case: Case
    model: Any
    statistics: VecNormalize | None
    path: Path
    vecnormalize: Path | None

    @property
    def draft(self) -> CardDraft:
        draft = self.case.card or (CHOOSE if self.case.action is CHOICES else DRIVE)
        seen = {"observation": FieldCard("uint8", [3, 36, 36])} if self.case.observation is FIRST else None
        return replace(draft, observation=seen)


class Trainer:
    """Trains each policy once, when a test first asks for it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.made: dict[str, Trained] = {}

    def __call__(self, name: str) -> Trained:
        if name not in self.made:
            self.made[name] = train((CASES | LOOKED_AT)[name], self.folder, name)
        return self.made[name]


def train(case: Case, folder: Path, name: str) -> Trained:
    env: Any = DummyVecEnv([lambda: Toy(case.observation, case.action)])
    statistics = None
    if case.normalise is not None:
        env = statistics = VecNormalize(env, norm_reward=False, **case.normalise)
    kwargs = {**case.policy_kwargs, **({} if case.algorithm == "ARS" else {"net_arch": [16]})}
    usual = {} if case.algorithm == "ARS" else ON_POLICY if case.algorithm in {"PPO", "A2C", "TRPO"} else OFF_POLICY
    more = {**usual, **case.more}
    if case.algorithm in {"PPO", "TRPO"}:
        more["batch_size"] = 32
    model = ALGORITHMS[case.algorithm].kind(case.policy, env, policy_kwargs=kwargs, seed=7, device="cpu", **more)
    model.learn(64)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.policy.parameters():  # 64 steps leave the actions near zero
            width = parameter[0].numel() if parameter.dim() > 1 else 9
            parameter.add_(0.5 * torch.randn(parameter.shape, generator=generator) / width**0.5)
    model.save(folder / f"{name}.zip")
    if statistics is not None:
        statistics.training = False
        statistics.save(str(folder / f"{name}.pkl"))
    return Trained(case, model, statistics, folder / f"{name}.zip", folder / f"{name}.pkl" if statistics else None)
