"""Environment variables that MLflow reads, set before it is imported."""

from __future__ import annotations

import logging
import os
import warnings

from ..errors import CarlaMlflowError, RegistryError
from ..escaping import one_line


def secrets_of_files() -> dict[str, str]:
    """MLflow's user, password and token from the files that MLFLOW_TRACKING_…_FILE name, as containers get secrets.

    Raises:
        RegistryError: such a file can't be read.
    """
    secrets = {}
    for name in ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_TOKEN"):
        path = os.environ.get(f"{name}_FILE")
        if path and name not in os.environ:
            try:
                with open(path) as file:
                    secret = file.read().strip()
            except (OSError, UnicodeDecodeError) as error:
                raise RegistryError(f"{name}_FILE={path}: can't be read as text: {one_line(error)}") from error
            if secret:
                secrets[name] = secret
    return secrets


def state_key() -> str:
    """The key of state tokens from POLICY_STATE_KEY, or from the file that POLICY_STATE_KEY_FILE names; empty for none.

    Raises:
        CarlaMlflowError: that file can't be read.
    """
    key, path = os.environ.get("POLICY_STATE_KEY"), os.environ.get("POLICY_STATE_KEY_FILE")
    if key is not None or not path:
        return key or ""
    try:
        with open(path) as file:
            return file.read().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise CarlaMlflowError(f"POLICY_STATE_KEY_FILE={path}: can't be read as text: {one_line(error)}") from error


def prepare_mlflow() -> None:
    """Silences MLflow's database notices and shortens its waiting from minutes; call it before MLflow is imported."""
    # MLflow's own defaults are 7 retries of 120 s each.
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "5")
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "ERROR")
    os.environ.update(secrets_of_files())
    os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")
    logging.getLogger("alembic").setLevel(logging.WARNING)
    warnings.simplefilter("ignore", FutureWarning)
