"""MLflow runs: where they are logged, how they are tagged, and which one is the latest."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import mlflow
from mlflow.entities import Experiment

from ..errors import NotFoundError
from .database import make_database

EXPERIMENT = "carla-mlflow"
"""Where runs are logged unless MLflow's own settings name another experiment."""


_RUN_VARIABLES = ("MLFLOW_RUN_ID", "MLFLOW_EXPERIMENT_NAME", "MLFLOW_EXPERIMENT_ID")
"""MLflow's variables that choose a run or an experiment; any of them replaces EXPERIMENT."""


@contextmanager
def logging_run(run_id: str | None = None, name: str | None = None) -> Iterator[str]:
    """An active MLflow run: the one named, the one that `mlflow run` opened, or a new one. Yields its id."""
    make_database(mlflow.get_tracking_uri())
    if run_id is None and not any(variable in os.environ for variable in _RUN_VARIABLES):
        mlflow.set_experiment(EXPERIMENT)
    with mlflow.start_run(run_id=run_id, run_name=name if run_id is None else None) as active:
        yield active.info.run_id


STEP_TAG = "carla.step"
"""The tag that says what a run did: train, register, evaluate or shadow."""


SHADOW_STEP, AGAINST_TAG = "shadow", "against"
"""The step of a run that a server's shadow logs, and the tag with the digest of the version that drove meanwhile."""


EVIDENCE_TAG, SELF_REPORTED = "carla.evidence", "self-reported"
"""The tag, and its value, of an evaluation whose episodes somebody logged from a simulator elsewhere."""


def expand_latest(uri: str) -> str:
    """Replaces `latest` in `runs:/latest/...` by the newest training run's id, and prints that on stderr.

    Other URIs are returned unchanged. Only runs of the experiment where this process would log count: other people on
    the same server train their own policies.

    Raises:
        NotFoundError: no training run has finished there.
    """
    if not uri.startswith("runs:/"):
        return uri
    make_database(mlflow.get_tracking_uri())
    head, slash, rest = uri.removeprefix("runs:/").partition("/")
    if head != "latest":
        return uri
    experiment = _experiment()
    query = f"tags.`{STEP_TAG}` = 'train' AND attributes.status = 'FINISHED'"
    ids = [experiment.experiment_id] if experiment else []
    runs = mlflow.search_runs(ids, query, max_results=1, output_format="list") if ids else []
    name = ascii(experiment.name if experiment else os.environ.get("MLFLOW_EXPERIMENT_NAME", EXPERIMENT))
    if not runs:
        raise NotFoundError(
            f"{mlflow.get_tracking_uri()}: no training run yet in the experiment {name}; train a policy first, or set "
            "MLFLOW_EXPERIMENT_NAME"
        )
    info = runs[0].info
    started = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(info.start_time / 1e3))
    print(f"runs:/latest is runs:/{info.run_id}, started {started} in the experiment {name}", file=sys.stderr)
    return f"runs:/{info.run_id}{slash}{rest}"


def _experiment() -> Experiment | None:
    """The experiment where `logging_run` logs; None when it does not exist yet."""
    if run_id := os.environ.get("MLFLOW_RUN_ID"):
        return mlflow.get_experiment(mlflow.get_run(run_id).info.experiment_id)
    if experiment_id := os.environ.get("MLFLOW_EXPERIMENT_ID"):
        return mlflow.get_experiment(experiment_id)
    return mlflow.get_experiment_by_name(os.environ.get("MLFLOW_EXPERIMENT_NAME", EXPERIMENT))
