"""A training checkpoint: all that is needed to resume training, to export, and to know where it came from.

    policy.zip          Stable-Baselines3's own save: network and optimiser
    preprocessor.skops  the fitted scikit-learn scaler
    training.yaml       settings, steps so far, and origin

Reading a checkpoint unpickles nothing: the networks are rebuilt from training.yaml, and only tensors are read from
policy.zip (torch's weights-only reader).
"""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, cast

import numpy as np
import skops.io
import yaml
from gymnasium import spaces
from numpy.typing import NDArray
from sklearn.preprocessing import StandardScaler
from stable_baselines3 import PPO
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.save_util import load_from_zip_file

from carla_mlflow.errors import ExportError
from carla_mlflow.preprocessing.skops_file import load_preprocessor

POLICY, PREPROCESSOR, TRAINING = "policy.zip", "preprocessor.skops", "training.yaml"


@dataclass(frozen=True)
class TrainingConfig:
    """How a policy is trained.

    Attributes:
        total_timesteps: environment steps over all environments.
        traffic: the most other cars on the track.
        environments: run in parallel, in processes; the same on every machine, so that a seed means the same.
        Others as Stable-Baselines3's PPO names them.
    """

    total_timesteps: int = 100_000
    seed: int = 0
    traffic: int = 0
    environments: int = 4
    hidden: tuple[int, ...] = (64, 64)
    n_steps: int = 512
    batch_size: int = 256
    n_epochs: int = 5
    learning_rate: float = 3e-4
    gamma: float = 0.99
    log_std_init: float = -0.7


@dataclass(frozen=True)
class Checkpoint:
    """The contents of a checkpoint folder, except policy.zip, which stays on disk."""

    folder: Path
    config: TrainingConfig
    steps: int
    preprocessor: StandardScaler
    provenance: dict[str, Any] = field(default_factory=dict)

    @property
    def policy_path(self) -> Path:
        return self.folder / POLICY


def feature_space(width: int) -> spaces.Box:
    """The network's input: the preprocessed observation, flat, in the card's order."""
    return spaces.Box(-np.inf, np.inf, (width,), np.float32)


def policy_kwargs(config: TrainingConfig) -> dict[str, Any]:
    return {"net_arch": list(config.hidden), "log_std_init": config.log_std_init}


def save_checkpoint(folder: Path, agent: PPO, config: TrainingConfig, scaler: StandardScaler, provenance: Any) -> None:
    """Writes each file under a temporary name, then renames it."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, write in (
        (POLICY, lambda path: agent.save(path)),
        (PREPROCESSOR, lambda path: skops.io.dump(scaler, path)),
        (TRAINING, lambda path: path.write_text(_training_text(agent.num_timesteps, config, provenance))),
    ):
        beside = folder / f".partial-{name}"  # keeps the suffix, which Stable-Baselines3 would add
        try:
            write(beside)
            os.replace(beside, folder / name)
        finally:
            beside.unlink(missing_ok=True)


def _training_text(steps: int, config: TrainingConfig, provenance: Any) -> str:
    settings = {**asdict(config), "hidden": list(config.hidden)}
    return str(yaml.safe_dump({"steps": steps, "config": settings, "provenance": provenance}, sort_keys=False))


def open_checkpoint(folder: Path) -> Checkpoint:
    """Reads a checkpoint folder.

    Raises:
        ExportError: a file is missing or is not what it should be.
    """
    for name in (POLICY, PREPROCESSOR, TRAINING):
        if not (folder / name).is_file():
            raise ExportError(f"{folder}: not a training checkpoint, {name} is missing")
    try:
        training = yaml.safe_load((folder / TRAINING).read_text())
        settings = {**training["config"], "hidden": tuple(training["config"]["hidden"])}
        config, steps, provenance = TrainingConfig(**settings), int(training["steps"]), training["provenance"]
    except (yaml.YAMLError, KeyError, TypeError, ValueError) as error:
        raise ExportError(f"{folder / TRAINING}: not what training writes: {error}") from error
    scaler = load_preprocessor((folder / PREPROCESSOR).read_bytes())
    return Checkpoint(folder, config, steps, scaler, provenance)


def load_policy(checkpoint: Checkpoint) -> ActorCriticPolicy:
    """The trained actor-critic, in evaluation mode on the CPU."""
    width = checkpoint.preprocessor.n_features_in_
    policy = ActorCriticPolicy(
        feature_space(width), spaces.Box(-1.0, 1.0, (2,), np.float32), lambda _: 0.0, **policy_kwargs(checkpoint.config)
    )
    try:
        _, parameters, _ = load_from_zip_file(checkpoint.policy_path, load_data=False, device="cpu")
        policy.load_state_dict(cast(Any, parameters["policy"]))
    except (KeyError, RuntimeError, TypeError, ValueError) as error:
        raise ExportError(f"{checkpoint.policy_path}: its weights don't fit training.yaml: {error}") from error
    policy.set_training_mode(False)
    return policy


def preprocess(scaler: StandardScaler, features: NDArray[np.float32]) -> NDArray[np.float32]:
    """(B, F) → (B, F), float32, as in training: computed in float64, as in the exported graph."""
    return np.asarray(scaler.transform(features.astype(np.float64)), dtype=np.float32)
