"""Where training code is recorded: MLflow runs, and the state of the code that made them."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

import mlflow

EXPERIMENT = "carla-mlflow"


def git_state() -> str:
    """The commit, with `+changes` when the work tree differs from it, or `unknown` outside a checkout."""
    try:
        commit = subprocess.run(
            ["git", "rev-parse", "--short=12", "HEAD"], capture_output=True, text=True, check=True, timeout=5
        ).stdout.strip()
        changes = subprocess.run(
            ["git", "status", "--porcelain", "--untracked-files=no"], capture_output=True, text=True, timeout=5
        ).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return commit + ("+changes" if changes else "")


@contextmanager
def run(run_id: str | None = None, name: str | None = None) -> Iterator[str]:
    """An active MLflow run: the one named, the one that `mlflow run` opened, or a new one. Yields its id."""
    if run_id is None and "MLFLOW_RUN_ID" not in os.environ and "MLFLOW_EXPERIMENT_NAME" not in os.environ:
        mlflow.set_experiment(EXPERIMENT)
    with mlflow.start_run(run_id=run_id, run_name=name if run_id is None else None) as active:
        yield active.info.run_id
