"""Lets the registry bring a version's page in MLflow up to date, after new evidence of it was logged."""

from __future__ import annotations

import subprocess
import sys

from carla_mlflow.artifact.naming import is_artifact_folder, split_folder_reference
from carla_mlflow.cli import progress, warn

LIMIT_S = 120


def refresh_description(model: str) -> None:
    """Runs `carla-registry describe`, as the registry can't be imported here; warns if it fails.

    Args:
        model: as `evaluate` takes it; what is no version of the registry by its name is left out.
    """
    if is_artifact_folder(model) or model.startswith(("runs:/", "models:/")) or split_folder_reference(model):
        return
    progress(f"describing {model} in MLflow")
    command = [sys.executable, "-m", "registry", "describe", model, "--quiet"]
    try:
        done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=LIMIT_S)
        problem = (done.stderr.strip().splitlines() or ["it failed"])[-1] if done.returncode else ""
    except (OSError, subprocess.TimeoutExpired) as error:
        problem = str(error)
    if problem:
        warn(f"the description of {model} in MLflow is not up to date: {problem}")
