"""The environments of a training, each in a process of its own."""

from __future__ import annotations

import contextlib
import multiprocessing
import signal
from collections.abc import Callable, Iterator
from typing import Any

import gymnasium
import numpy as np
from gymnasium.wrappers import FlattenObservation
from numpy.typing import NDArray
from sklearn.preprocessing import StandardScaler
from stable_baselines3.common.vec_env import SubprocVecEnv, VecEnv, VecEnvWrapper, VecMonitor

from carla_mlflow.interrupt import SIGNALS
from training_export.racetrack.env import Racetrack
from training_export.training.checkpoint import TrainingConfig, feature_space, preprocess

IN_EACH = ["stable_baselines3.common.vec_env.subproc_vec_env", "training_export.racetrack.env"]
"""What each process needs: imported once, by the process of which the others are forks."""


@contextlib.contextmanager
def environments(config: TrainingConfig, scaler: StandardScaler) -> Iterator[VecEnv]:
    """Starts the environments, and ends them: in peace at the end of the block, by force where an exception leaves it.

    One that died leaves the others' answers unread, for which a peaceful end would wait without end.
    """
    multiprocessing.set_forkserver_preload(IN_EACH)
    others = set(multiprocessing.active_children())
    try:
        started = SubprocVecEnv([make_env(config.traffic)] * config.environments)
        yield VecPreprocess(VecMonitor(started), scaler)
        started.close()
    except BaseException:
        left = set(multiprocessing.active_children()) - others
        for process in left:
            process.kill()
        for process in left:
            process.join()  # none is there any more when the caller goes on
        raise


def make_env(traffic: int) -> Callable[[], gymnasium.Env[Any, Any]]:
    """Makes the function that builds an environment in its own process, and leaves Ctrl-C and SIGTERM to the trainer.

    Both come to every process of a job at once: from a terminal, and from a cluster that wants its machine back.
    """

    def build() -> gymnasium.Env[Any, Any]:
        for each in SIGNALS:
            signal.signal(each, signal.SIG_IGN)
        return FlattenObservation(Racetrack(traffic=traffic))

    return build


class VecPreprocess(VecEnvWrapper):
    """Passes each observation to the agent through the fitted scaler."""

    def __init__(self, venv: VecEnv, scaler: StandardScaler) -> None:
        super().__init__(venv, observation_space=feature_space(scaler.n_features_in_))
        self._scaler = scaler

    def reset(self) -> NDArray[np.float32]:
        return preprocess(self._scaler, np.asarray(self.venv.reset()))

    def step_wait(self) -> Any:
        observations, rewards, dones, infos = self.venv.step_wait()
        for info in infos:
            if "terminal_observation" in info:
                info["terminal_observation"] = preprocess(self._scaler, info["terminal_observation"][None])[0]
        return preprocess(self._scaler, np.asarray(observations)), rewards, dones, infos
