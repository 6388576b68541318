"""The registry that is configured on this machine, if there is one: a replay needs none."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from carla_mlflow.cli import warn
from carla_mlflow.errors import RegistryError, UnreachableError
from carla_mlflow.escaping import one_line

if TYPE_CHECKING:
    from registry.store.store import Store

DEADLINE_S = 10.0


def open_store() -> Store | None:
    """The registry; None where none is configured, or with a warning where it does not answer.

    MLflow would create a database where none is: so it is asked only where a variable names one, or its default lies
    in the working folder.
    """
    named = any(os.environ.get(name) for name in ("MLFLOW_REGISTRY_URI", "MLFLOW_TRACKING_URI"))
    if not named and not Path("mlflow.db").is_file():
        return None
    from registry.store.store import Store  # imports mlflow, which takes seconds

    try:
        store = Store(DEADLINE_S)
        store.names()
    except (RegistryError, UnreachableError) as error:
        warn(f"the registry can't be asked what drove: {one_line(error)}")
        return None
    return store
