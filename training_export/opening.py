"""The policy that a command is told: a folder, a registered version, or a logged model."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from carla_mlflow.cli import DONE, UNREACHABLE
from carla_mlflow.engine import Engine
from carla_mlflow.errors import RegistryError, UnreachableError
from carla_mlflow.preprocessing import operators_types


def open_engine(model: str, scratch: Path) -> Engine:
    """Loads a policy.

    Args:
        model: an artifact folder; a reference such as name@1.4.2, then held against the digest that the registry pins;
            or MLflow's own URI, such as runs:/ID/policy or models:/name@alias.
        scratch: where to download to.
    """
    digest, folder = None, Path(model)
    if not folder.is_dir() and not model.startswith((".", "/")):
        from carla_mlflow.mlflow_model import fetch_policy  # imports mlflow, which a folder does without

        uri, digest = (model, None) if model.startswith(("runs:/", "models:/")) else _resolve(model)
        folder = fetch_policy(uri, scratch / "fetched")
    return Engine.open(folder, digest, trusted=operators_types())


def _resolve(reference: str) -> tuple[str, str]:
    """MLflow's URI of a registered version and its digest, by the registry's own command: it lies above this package.

    Raises:
        UnreachableError: the registry does not answer.
        RegistryError: there is no such version.
    """
    command = [sys.executable, "-m", "registry", "resolve", reference, "--json"]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode != DONE:
        said = (done.stderr.strip().splitlines() or ["the registry's command failed"])[-1].partition(": ")[2]
        raise (UnreachableError if done.returncode == UNREACHABLE else RegistryError)(said)
    version = json.loads(done.stdout)
    return f"models:/{version['name']}/{version['number']}", version["digest"]
