"""A small untrained policy of every algorithm of Stable-Baselines3 and sb3-contrib, with each kind of observation."""

from __future__ import annotations

import functools
import tempfile
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from gymnasium.spaces import Box, Dict, Discrete, MultiBinary, MultiDiscrete

from carla_mlflow.contract.action_card import Control
from training_export.sources.draft import ActionDraft, CardDraft
from training_export.sources.observation_spaces import SINGLE, sources_of
from training_export.sources.sb3.algorithms import ALGORITHMS
from training_export.sources.sb3.source import from_sb3
from training_export.sources.trained import Arrays, TrainedPolicy

VECTOR = Box(np.float32([-2, -np.inf, 0]), np.float32([2, np.inf, 5]))
IMAGE = Box(0, 255, (3, 36, 36), np.uint8)
OBSERVATIONS: dict[str, Any] = {
    "vector": VECTOR,
    "image": IMAGE,
    "choice": Discrete(6),
    "Dict": Dict(
        {
            "camera": IMAGE,
            "command": Discrete(6),
            "gears": MultiDiscrete([3, 2]),
            "lidar-front": Box(0, 1, (5,)),
            "lights": MultiBinary(4),
            "speed": VECTOR,
        }
    ),
}
PEDALS = Box(np.float32([-3, -0.7]), np.float32([2, 0.7]))
DRIVE = ActionDraft("acceleration_steer", ["acceleration", "steer"], full_throttle=2.0, full_brake=-3.0, full_right=0.7)
CHOOSE = ActionDraft("table", table=[Control(t, 1 - t, 0) for t in (0, 0.3, 0.6, 1)])
CHOOSING = {"DQN", "QRDQN", "MaskablePPO"}
"""Algorithms that take no Box of actions."""
WITHOUT = {("ARS", "Dict"), ("CrossQ", "Dict")}
"""What sb3-contrib does not take."""
SAME_NETWORK = {"A2C": "PPO", "TRPO": "PPO", "TQC": "SAC", "DDPG": "TD3"}
"""Algorithms whose policies are, to the last weight, those of another one: they are trained otherwise."""
CASES = [(name, seen) for name in ALGORITHMS for seen in OBSERVATIONS if (name, seen) not in WITHOUT]


class Unmoved(gym.Env[Any, Any]):
    """Has spaces, which is all that an untrained policy needs."""

    def __init__(self, observation: gym.Space[Any], action: gym.Space[Any]) -> None:
        self.observation_space, self.action_space = observation, action

    def action_masks(self) -> list[bool]:
        return [True] * int(self.action_space.n)  # type: ignore[attr-defined]


@dataclass(frozen=True)
class Untrained:
    """A policy, and the model that it was exported from.

    Attributes:
        trained: read from the model's zip.
        model: Stable-Baselines3's.
    """

    trained: TrainedPolicy
    model: Any

    def predict(self, observations: Arrays) -> Any:
        """The library's own actions, (B, A); of a policy with a memory those at the beginning of episodes."""
        given = {source: observations[name] for name, source in sources_of(self.trained.observation).items()}
        mask = given.pop("action_mask", None)
        more = {} if mask is None else {"action_masks": mask}
        chosen, _ = self.model.predict(given.get(SINGLE, given), deterministic=True, **more)
        return np.asarray(chosen, dtype=np.float32).reshape(len(chosen), -1)


def untrained(algorithm: str, observation: str, policy: str | None = None, **policy_kwargs: Any) -> Untrained:
    """Makes a model, saves it, and reads the zip as any user's; the arguments are those of `save`."""
    draft = CardDraft(CHOOSE if algorithm in CHOOSING else DRIVE)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.zip"
        model = save(algorithm, observation, path, policy, **policy_kwargs)
        return Untrained(from_sb3(path, draft, None, trust_pickle=True, no_vecnormalize=True), model)


def save(algorithm: str, observation: str, path: Path, policy: str | None = None, **policy_kwargs: Any) -> Any:
    """Makes a model with weights drawn at random, and saves it.

    Args:
        algorithm: one of ALGORITHMS.
        observation: one of OBSERVATIONS.
        path: of the zip.
        policy: such as "LinearPolicy"; None takes the one that is for the observation, if the algorithm has it.
        policy_kwargs: more of the policy's arguments.

    Returns:
        The model.
    """
    torch.manual_seed(0)
    kind = ALGORITHMS[algorithm].kind
    wanted = policy or {"image": "CnnPolicy", "Dict": "MultiInputPolicy"}.get(observation, "MlpPolicy")
    remembers = algorithm == "RecurrentPPO"
    chosen = wanted if wanted in kind.policy_aliases or remembers else "MlpPolicy"
    more: dict[str, Any] = {} if ALGORITHMS[algorithm].shows_normalisation else {"buffer_size": 1}
    kwargs: dict[str, Any] = {} if chosen == "LinearPolicy" else {"net_arch": [16]}
    if chosen in {"CnnPolicy", "MultiInputPolicy"}:
        width = "cnn_output_dim" if observation == "Dict" else "features_dim"
        kwargs["features_extractor_kwargs"] = {width: 16}
    if remembers:
        chosen, kwargs["lstm_hidden_size"] = chosen.replace("Policy", "LstmPolicy"), 16
    seen = OBSERVATIONS[observation]
    if remembers and observation == "Dict":  # its LSTM does not take a MultiDiscrete's width, which is no plain int
        seen = Dict({name: part for name, part in seen.spaces.items() if name != "gears"})
    env = Unmoved(seen, Discrete(4) if algorithm in CHOOSING else PEDALS)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a rollout's size
        model: Any = kind(chosen, env, policy_kwargs=kwargs | policy_kwargs, seed=0, device="cpu", **more)
    _draw(model.policy)
    model.save(path)
    return model


def _draw(policy: torch.nn.Module) -> None:
    """Weights so large, and biases so small, that actions differ from each other; statistics other than the first.

    At this size both graphs of every algorithm stay within what parity allows; with larger weights sums over an image
    do not.
    """
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, tensor in [*policy.named_parameters(), *policy.named_buffers()]:
            if tensor.is_floating_point():
                width = tensor[0].numel() if tensor.dim() > 1 else 9
                drawn = torch.randn(tensor.shape, generator=generator) / width**0.5
                if name.endswith("bias"):
                    tensor.copy_(0.02 * drawn)
                else:
                    tensor.add_(drawn.abs() if name.endswith("var") else 0.7 * drawn)


def _policy(algorithm: str, observation: str) -> TrainedPolicy:
    return untrained(algorithm, observation).trained


LIBRARIES: Mapping[str, Any] = {
    f"{algorithm}, {seen}": functools.partial(_policy, algorithm, seen)
    for algorithm, seen in CASES
    if algorithm not in SAME_NETWORK and (seen == "Dict" or (seen == "vector" and (algorithm, "Dict") in WITHOUT))
}
"""Each algorithm with networks of its own, with the richest observation that it takes: for the conformance kit."""
