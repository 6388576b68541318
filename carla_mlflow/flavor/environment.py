"""Environment variables that MLflow reads, set before it is imported."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Mapping

from ..errors import CarlaMlflowError, RegistryError
from ..escaping import one_line

MIN_KEY = 16
"""Fewest characters of the key of state tokens: 16 at random can't be tried out."""


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


def read_secret(environment: Mapping[str, str], variable: str) -> str | None:
    """A secret from its variable or, where that is missing or empty, from the file that `<variable>_FILE` names.

    Returns:
        Its text without white space around it; None where neither is given.

    Raises:
        CarlaMlflowError: the file can't be read.
    """
    if environment.get(variable):
        return environment[variable].strip()
    path = environment.get(f"{variable}_FILE")
    if path is None:
        return None
    try:
        with open(path) as file:
            return file.read().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise CarlaMlflowError(f"{variable}_FILE={path!r}: can't be read as text: {one_line(error)}") from error


def given_by(environment: Mapping[str, str], variable: str) -> str:
    """Where `read_secret` has found a secret, as messages say it."""
    file = f"{variable}_FILE"
    return variable if environment.get(variable) or file not in environment else f"{file}={environment[file]!r}"


def state_key(environment: Mapping[str, str] = os.environ) -> str:
    """The key of state tokens, as the server, scoring and MLflow models read it; empty for none.

    It is POLICY_STATE_KEY, or else what the file holds that POLICY_STATE_KEY_FILE names, without white space around it.

    Args:
        environment: where these variables are looked up.

    Raises:
        CarlaMlflowError: that file can't be read or is empty, or the key has fewer than MIN_KEY characters.
    """
    key = read_secret(environment, "POLICY_STATE_KEY")
    if key is None:
        return ""
    if len(key) < MIN_KEY:
        made = "such as `openssl rand -hex 32` makes"
        found = "is empty" if not key else f"has {len(key)} characters"
        where = given_by(environment, "POLICY_STATE_KEY")
        raise CarlaMlflowError(f"{where}: the key {found}; expected at least {MIN_KEY} characters, {made}")
    return key


def other_key(secret: str, expected: str) -> str | None:
    """What is wrong with a node's key of state tokens; None where it is that of the machine that started the work.

    Args:
        secret: the key here; empty for none.
        expected: `name_of_key` of the key there.
    """
    from ..contract.state_token import name_of_key  # imports numpy, which commands that end at once do not need

    if name_of_key(secret) == expected:
        return None
    found = "no" if not secret else "another" if expected else "a"
    text = "set it, or POLICY_STATE_KEY_FILE, in the environment of every node"
    return f"this node has {found} POLICY_STATE_KEY, unlike where this was started; {text}"


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
