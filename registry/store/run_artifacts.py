"""Adds a page to an MLflow run that has ended, or goes on."""

from __future__ import annotations

import mlflow

from carla_mlflow.flavor.database import without_password
from registry.store.calls import call_with_deadline


def log_page(run_id: str, name: str, text: str, deadline_s: float = 30.0) -> None:
    """Writes a text file into a run's artifacts, in place of one of that name.

    Raises:
        UnreachableError: MLflow does not answer in time.
        RegistryError: MLflow refused the call, or the run is gone.
    """
    uri = without_password(mlflow.get_tracking_uri())
    call_with_deadline(uri, deadline_s, mlflow.log_text, text, name, run_id=run_id)
