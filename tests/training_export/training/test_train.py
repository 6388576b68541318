"""Training for real, if briefly: seeded, resumable, and usable after Ctrl-C."""

from __future__ import annotations

import multiprocessing
import os
import select
import signal
import subprocess
import sys
import termios
import time
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pytest
from following_support import until_true
from patience import PATIENCE_S
from stable_baselines3.common.vec_env import SubprocVecEnv
from tests_support import command_here

from carla_mlflow import open_artifact
from training_export.training.checkpoint import load_policy, open_checkpoint

pytestmark = [pytest.mark.filterwarnings("ignore"), pytest.mark.slow]


def train(*flags: str, stderr: int = subprocess.PIPE, is_job: bool = False) -> subprocess.Popen[str]:
    """Starts it; a job has a process group of its own."""
    command = [sys.executable, "-m", "training_export", "train", *flags]
    group = 0 if is_job else None
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=stderr, text=True, process_group=group)


def train_here(*flags: str) -> None:
    """In this process, which has imported torch and MLflow."""
    done = command_here("training_export", "train", *flags)
    assert (done.code, done.out[:7]) == (0, "trained"), done.err


def test_training_is_logged_seeded_and_resumable(mlflow_home: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("SB3_LOGDIR", str(mlflow_home / "of-the-library"))
    process = train("--total-timesteps", "4096", "--seed", "3", "--output", "one")
    assert process.communicate()[0].startswith("trained")
    assert process.returncode == 0
    train_here("--total-timesteps", "4096", "--seed", "3", "--output", "two")
    one, two = open_checkpoint(mlflow_home / "one"), open_checkpoint(mlflow_home / "two")
    for a, b in zip(load_policy(one).parameters(), load_policy(two).parameters(), strict=True):
        np.testing.assert_array_equal(a.detach().numpy(), b.detach().numpy())

    [run, *_] = mlflow.search_runs(search_all_experiments=True, output_format="list")
    assert run.data.params["seed"] == "3"
    assert run.data.params["env"] == "racetrack-v1"
    assert "episode/reward_mean" in run.data.metrics
    assert "git" in run.data.tags
    files = {file.path for file in mlflow.MlflowClient().list_artifacts(run.info.run_id)}
    assert files == {"checkpoint", "learning_curve.png"}

    train_here("--total-timesteps", "6144", "--resume", "one", "--output", "more")
    more = open_checkpoint(mlflow_home / "more")
    assert more.steps == 6144
    assert more.config.seed == 3
    np.testing.assert_array_equal(more.preprocessor.mean_, one.preprocessor.mean_)
    assert not (mlflow_home / "of-the-library").exists()  # where Stable-Baselines3 would log, too: /tmp unless told


def test_ctrl_c_leaves_a_checkpoint_that_exports(mlflow_home: Path):
    screen, terminal = os.openpty()  # a terminal, since a log file gets no bar; nor does a terminal without a size
    termios.tcsetwinsize(terminal, (24, 120))
    process = train("--total-timesteps", "1000000", "--output", "early", stderr=terminal)
    seen, ends, asked = b"", time.monotonic() + PATIENCE_S, False  # minutes, on two busy cores
    while process.poll() is None and time.monotonic() < ends:  # to the end: a screen that nobody reads stops who writes
        if select.select([screen], [], [], 1.0)[0]:
            seen += os.read(screen, 65536)
        if b"on the road" in seen and not asked:
            process.send_signal(signal.SIGINT)
            asked = True
    out, _ = process.communicate(timeout=PATIENCE_S)
    os.close(terminal)
    os.close(screen)
    assert process.returncode == 130, seen
    assert "usable" in out
    assert 0 < open_checkpoint(mlflow_home / "early").steps < 1_000_000
    done = command_here("carla-export", "early", "--output", "artifact", "--episodes", "0")
    assert done.code == 0, done.err
    card = open_artifact(mlflow_home / "artifact").card
    assert card.observation["speed"].high == 60  # what a car may ask; what training saw is another thing
    assert 0 <= card.observation["speed"].seen.low < card.observation["speed"].seen.high < 45


class Interrupting:
    """The pipe to an environment's process; Ctrl-C comes the first time that it is asked for what came."""

    def __init__(self, pipe: Connection) -> None:
        self._pipe, self._is_first = pipe, True

    def __getattr__(self, name: str) -> Any:
        return getattr(self._pipe, name)

    def recv(self) -> Any:
        if self._is_first:
            self._is_first = False
            signal.raise_signal(signal.SIGINT)
        return self._pipe.recv()


def test_a_ctrl_c_between_the_answers_of_two_environments_leaves_a_checkpoint_too(
    mlflow_home: Path, monkeypatch: pytest.MonkeyPatch
):
    asked = SubprocVecEnv.step_async

    def step_async(self: SubprocVecEnv, actions: Any) -> None:
        if not isinstance(self.remotes[1], Interrupting):
            self.remotes = (self.remotes[0], Interrupting(self.remotes[1]), *self.remotes[2:])
        asked(self, actions)

    monkeypatch.setattr(SubprocVecEnv, "step_async", step_async)
    done = command_here("training_export", "train", "--total-timesteps", "1000000", "--output", "early")
    assert (done.code, done.out[:13]) == (130, "stopped early"), done.err
    assert 0 < open_checkpoint(mlflow_home / "early").steps < 1_000_000


@pytest.mark.parametrize("which", [0, 2])
def test_an_environment_that_dies_ends_the_training(mlflow_home: Path, monkeypatch: pytest.MonkeyPatch, which: int):
    asked = SubprocVecEnv.step_async

    def step_async(self: SubprocVecEnv, actions: Any) -> None:
        self.processes[which].kill()
        self.processes[which].join()
        asked(self, actions)

    monkeypatch.setattr(SubprocVecEnv, "step_async", step_async)
    callers = multiprocessing.get_context("spawn").Process(target=time.sleep, args=(3600,))
    callers.start()
    done = command_here("training_export", "train", "--total-timesteps", "1000000", "--output", "early")
    assert done.code == 1, done.err
    assert multiprocessing.active_children() == [callers]
    callers.kill()
    callers.join()


def test_sigterm_to_all_processes_of_a_job_leaves_a_checkpoint(mlflow_home: Path):
    process = train("--total-timesteps", "1000000", "--output", "early", is_job=True)
    assert process.stderr is not None
    until_true((mlflow_home / "early").is_dir)  # it is trained by then
    os.killpg(process.pid, signal.SIGTERM)
    out, err = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 130, err
    assert "usable" in out
    assert 0 < open_checkpoint(mlflow_home / "early").steps < 1_000_000
