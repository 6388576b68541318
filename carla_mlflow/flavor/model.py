"""A policy artifact as a logged MLflow model: `artifacts/policy/`, our code under a name of its own, no pickle."""

from __future__ import annotations

import errno
import importlib.metadata
import os
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
from mlflow.exceptions import MlflowException

from ..artifact.artifact import Artifact, write_artifact
from ..artifact.folder import new_folder, sync_file, write_synced
from ..contract.specs import ObservationSpec
from ..contract.state_token import STATE, token_bytes
from ..errors import NotFoundError, UnreachableError
from .card_in_run import log_card, log_figures
from .code_bundle import bundle_code, importable
from .runs import expand_latest
from .signature import signature_of
from .translate_errors import translate

MODEL_NAME = "policy"
"""The logged model's name in its run: `runs:/<run_id>/policy`."""
ARTIFACT_PATH = "artifacts/policy"
"""Where the policy artifact lies inside the MLflow model."""

_REQUIREMENTS = ("mlflow", "numpy", "pandas", "msgspec", "pyyaml")
_BACKEND_REQUIREMENTS = {"torchscript": ("torch",), "onnx": ("onnx", "onnxruntime"), "openvino": ("onnx", "openvino")}
_PREPROCESSOR_REQUIREMENTS = ("scikit-learn", "skops")


def requirements_of(artifact: Artifact) -> list[str]:
    """The model's requirements, pinned to the versions installed here; MLflow would take 6 to 13 s to infer them."""
    names = (*_REQUIREMENTS, *_BACKEND_REQUIREMENTS[artifact.card.backend])
    if not artifact.card.preprocessing.in_graph:
        names += _PREPROCESSOR_REQUIREMENTS
    # A local label such as torch's +cpu names a build that package indexes don't hold.
    return [f"{name}=={importlib.metadata.version(name).partition('+')[0]}" for name in names]


def input_example(observation: ObservationSpec, state_bytes: int = 0) -> Any:
    """One row that fits the signature: a DataFrame, or a dict of arrays when a field is an image.

    It begins an episode; a tensor `state`, which can't be left out, holds `state_bytes` zeros.
    """
    arrays = observation.example()
    if observation.has_image:
        return {**arrays, STATE: np.zeros((1, state_bytes), np.uint8)} if state_bytes else arrays
    columns = {name: [float(a[0])] if a.ndim == 1 else [a[0].astype(float).tolist()] for name, a in arrays.items()}
    return pd.DataFrame(columns)


def log_policy(artifact: Artifact) -> str:
    """Logs the artifact, its card and figures to the active run; returns the model's URI, `runs:/<run_id>/policy`."""
    run = mlflow.active_run()
    assert run is not None, "log_policy needs an active run"
    specs, memory = artifact.card.observation_spec, artifact.card.memory
    state_bytes = 0 if memory is None else token_bytes(memory.size)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        write_artifact(folder / MODEL_NAME, artifact)
        (folder / "code").mkdir()
        package, entry = bundle_code(folder / "code")
        with importable(package):  # MLflow runs the entry once, to see that it names a model
            mlflow.pyfunc.log_model(
                name=MODEL_NAME,
                python_model=str(entry),
                code_paths=[str(package)],
                artifacts={MODEL_NAME: str(folder / MODEL_NAME)},
                signature=signature_of(specs, artifact.card.action, state_bytes),
                input_example=input_example(specs, state_bytes),
                pip_requirements=requirements_of(artifact),
                metadata={"digest": artifact.digest, "semver": artifact.card.version},
            )
    log_card(artifact.card)
    log_figures(artifact.card)
    return f"runs:/{run.info.run_id}/{MODEL_NAME}"


def _lists_no_policy(uri: str) -> bool:
    """Whether MLflow can list the run's or model's files, and no policy artifact is among them."""
    folder, _, name = ARTIFACT_PATH.rpartition("/")
    try:
        listed = mlflow.artifacts.list_artifacts(artifact_uri=f"{uri}/{folder}")
    except (MlflowException, OSError):
        return False
    return all(entry.path.rpartition("/")[2] != name for entry in listed)


def _no_policy(uri: str) -> str:
    """The message for a run or model without a policy; for a run it says how to export a training checkpoint."""
    source = uri.rpartition("/")[0] if uri.count("/") > 1 and uri.startswith("runs:/") else uri
    hint = f"; is it a training run? carla-export {source} --log logs one" if uri.startswith("runs:/") else ""
    return f"{uri}: holds no policy artifact{hint}"


_DOWNLOAD = ".download"
"""The subfolder into which a policy is downloaded, inside the folder that will hold it."""


def fetch_policy(uri: str, folder: Path) -> Path:
    """Downloads the policy artifact of a logged or registered model; verify it with `open_artifact`.

    Args:
        uri: `runs:/<run_id>/policy`, `models:/<name>/<version>`, `models:/<name>@<alias>`.
        folder: to create; must not exist. It appears complete or not at all.

    Raises:
        NotFoundError: MLflow has no such model, or it holds no policy artifact.
        UnreachableError: MLflow does not answer.
        OSError: the disk is full, or can't be written.
    """
    started, uri = time.monotonic(), expand_latest(uri)
    with new_folder(folder) as beside:
        download = beside / _DOWNLOAD
        download.mkdir()
        try:
            downloaded = mlflow.artifacts.download_artifacts(f"{uri}/{ARTIFACT_PATH}", dst_path=str(download))
        except MlflowException as error:
            write_synced(download / ".room", bytes(65536))  # OSError if the disk is full; MLflow's error is only text
            known = translate(error, mlflow.get_tracking_uri(), time.monotonic() - started)
            if not isinstance(known, UnreachableError) and _lists_no_policy(uri):
                known = NotFoundError(_no_policy(uri))
            raise known from error
        except OSError as error:
            is_missing = error.errno in {None, errno.ENOENT}  # how MLflow reports a missing local folder
            if is_missing and download.exists():
                raise NotFoundError(_no_policy(uri)) from error
            raise
        for entry in Path(downloaded).iterdir():
            sync_file(entry)
            os.replace(entry, beside / entry.name)
        shutil.rmtree(download)
    return folder
