"""PPO on the racetrack: seeded, resumable, with a fitted scaler, logged to MLflow.

Ctrl-C and SIGTERM end training early and leave a usable checkpoint.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import torch
from gymnasium.wrappers import FlattenObservation
from sklearn.preprocessing import StandardScaler
from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.vec_env import VecEnv

from carla_mlflow.build import git_state
from carla_mlflow.contract.seeds import SCALER_FIRST, TRAINING_FIRST
from carla_mlflow.errors import ExportError
from carla_mlflow.flavor.runs import STEP_TAG
from carla_mlflow.interrupt import Interrupt
from carla_mlflow.look import bar, progress
from training_export.racetrack.env import ENV_ID, RATE_HZ, Racetrack
from training_export.racetrack.plots import plot_learning_curve
from training_export.training.checkpoint import (
    Checkpoint,
    TrainingConfig,
    open_checkpoint,
    policy_kwargs,
    save_checkpoint,
)
from training_export.training.environments import environments

SCALER_STEPS = 2_000


def fit_scaler(traffic: int, seed: int) -> StandardScaler:
    """Fits a scaler on the observations of a car that is driven by a smooth random walk."""
    env = FlattenObservation(Racetrack(traffic=traffic))
    rng = np.random.default_rng(seed)
    seen, action, done = [], np.zeros(2), True
    for step in range(SCALER_STEPS):
        if done:
            observation, _ = env.reset(seed=SCALER_FIRST + seed if step == 0 else None)
            action = np.zeros(2)
        seen.append(observation)
        action = np.clip(0.9 * action + rng.normal(0.0, 0.15, 2), -1.0, 1.0)
        observation, _, terminated, truncated, _ = env.step(action)
        done = terminated or truncated
    return StandardScaler().fit(np.stack(seen).astype(np.float64))


class Progress(BaseCallback):
    """Shows a progress bar, logs curves to MLflow, saves a checkpoint every `save_every` rollouts, and ends early."""

    def __init__(self, total: int, save: Callable[[], None], interrupt: Interrupt, save_every: int = 10) -> None:
        super().__init__()
        self._total, self._save, self._interrupt, self._save_every = total, save, interrupt, save_every
        self._rollouts = 0
        self.curve: list[tuple[int, float, float]] = []

    def _on_training_start(self) -> None:
        self._bar = bar("training", self._total, "step", initial=self.num_timesteps)

    def _on_step(self) -> bool:
        return not self._interrupt.is_asked

    def _on_rollout_end(self) -> None:
        self._rollouts += 1
        self._bar.update(min(self.num_timesteps, self._total) - self._bar.n)
        episodes = list(self.model.ep_info_buffer or [])
        values = {k: v for k, v in self.logger.name_to_value.items() if isinstance(v, int | float)}
        if episodes:
            reward = float(np.mean([episode["r"] for episode in episodes]))
            seconds = float(np.mean([episode["l"] for episode in episodes])) / RATE_HZ
            self.curve.append((self.num_timesteps, reward, seconds))
            values |= {"episode/reward_mean": reward, "episode/seconds_mean": seconds}
            self._bar.set_postfix_str(f"reward {reward:.0f}, {seconds:.1f} s on the road")
        mlflow.log_metrics(values, step=self.num_timesteps)
        if self._rollouts % self._save_every == 0:
            self._save()

    def _on_training_end(self) -> None:
        self._bar.close()


def train(config: TrainingConfig, output: Path, resume: Path | None = None) -> bool:
    """Trains, and writes a checkpoint to `output`; needs an active MLflow run.

    Args:
        config: the settings; when resuming, all but `total_timesteps` are the checkpoint's.
        output: the checkpoint folder to write.
        resume: a checkpoint to continue from.

    Returns:
        False when Ctrl-C or SIGTERM ended it early.
    """
    earlier = open_checkpoint(resume) if resume else None
    if earlier:
        config = TrainingConfig(**{**vars(earlier.config), "total_timesteps": config.total_timesteps})
        if config.total_timesteps <= earlier.steps:
            raise ExportError(f"{resume}: has {earlier.steps:,} steps already; pass a larger --total-timesteps")
    torch.set_num_threads(1)
    progress("loading the checkpoint" if earlier else "fitting the scaler of observations")
    scaler = earlier.preprocessor if earlier else fit_scaler(config.traffic, config.seed)
    mlflow.log_params({**vars(config), "env": ENV_ID, "resumed_at": earlier.steps if earlier else 0})
    provenance = _provenance()
    mlflow.set_tags({STEP_TAG: "train", "git": provenance["git"]})
    progress("starting the environments")
    with Interrupt("stopping; the checkpoint is saved first") as interrupt:
        with environments(config, scaler) as venv:
            agent = make_agent(config, venv, earlier)

            def save() -> None:
                save_checkpoint(output, agent, config, scaler, provenance)

            callback = Progress(config.total_timesteps, save, interrupt)
            agent.learn(config.total_timesteps - agent.num_timesteps, callback=callback, reset_num_timesteps=False)
            save()
        if callback.curve:
            mlflow.log_figure(plot_learning_curve(callback.curve), "learning_curve.png")
        mlflow.log_artifacts(str(output), "checkpoint")
    return agent.num_timesteps >= config.total_timesteps


def make_agent(config: TrainingConfig, venv: VecEnv, earlier: Checkpoint | None = None) -> PPO:
    """The PPO learner, with the environments seeded for their first reset."""
    seed = config.seed + (earlier.steps if earlier else 0)
    agent = PPO(
        "MlpPolicy",
        venv,
        n_steps=config.n_steps,
        batch_size=config.batch_size,
        n_epochs=config.n_epochs,
        learning_rate=config.learning_rate,
        gamma=config.gamma,
        seed=seed,
        policy_kwargs=policy_kwargs(config),
        device="cpu",
    )
    agent.set_logger(Logger(folder=None, output_formats=[]))  # its own makes a folder in /tmp; curves go to MLflow
    venv.seed(TRAINING_FIRST + seed)  # PPO has seeded them with its own seed, which an evaluation may use
    if earlier:
        agent.set_parameters(str(earlier.policy_path), device="cpu")
        agent.num_timesteps = earlier.steps
    return agent


def _provenance() -> dict[str, Any]:
    run = mlflow.active_run()
    return {
        "run_id": run.info.run_id if run else None,
        "git": git_state(),
        "env": ENV_ID,
        "algorithm": "PPO",
        "versions": {
            "highway-env": version("highway-env"),
            "stable-baselines3": version("stable-baselines3"),
            "torch": str(torch.__version__),
        },
    }
