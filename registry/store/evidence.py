"""Reads evaluations from MLflow: the only reader of the runs that `python -m training_export evaluate --log` writes."""

from __future__ import annotations

import math
import re
import tempfile
from collections.abc import Mapping
from pathlib import Path

import mlflow
from mlflow.entities import Run

from carla_mlflow.errors import RegistryError
from carla_mlflow.escaping import one_line
from carla_mlflow.flavor.database import without_password
from carla_mlflow.flavor.runs import EVIDENCE_TAG, SELF_REPORTED, STEP_TAG
from registry.gates.episodes import PARAMETERS, POLICY, REQUIRED, Drives, Evidence, differing, read_drives
from registry.gates.latency_condition import FIGURES, LATENCY, Latency
from registry.store.calls import call_with_deadline

TABLE = "episodes.json"
MAX_BYTES = 64 << 20
"""The largest table: some hundred thousand episodes."""
MAX_RUNS = 200
"""The most evaluations of one artifact that are searched for the wanted conditions, newest first."""
_RENAMED = {"env_version": (", code d6d0fa36", ", revision 1")}
"""Condition → (old ending, new ending): earlier releases ended env_version with a hash of the environment's files."""
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


def find_evidence(digest: str, like: Evidence | None = None, deadline_s: float = 30.0) -> Evidence | None:
    """The newest finished evaluation of an artifact, in any experiment.

    Args:
        digest: the artifact's; runs are found by their tag `digest`.
        like: evidence whose conditions are preferred to newer evaluations under others.
        deadline_s: for the whole search.

    Returns:
        None when it was never evaluated. A run that can't be read as evidence is returned with its `problem`.

    Raises:
        UnreachableError: MLflow does not answer in time.
        RegistryError: MLflow refused the call.
    """
    if not _DIGEST.fullmatch(digest):
        return None  # nothing is pinned, so nothing can have been evaluated
    return call_with_deadline(without_password(mlflow.get_tracking_uri()), deadline_s, _find, digest, like)


def _find(digest: str, like: Evidence | None) -> Evidence | None:
    runs = mlflow.search_runs(
        search_all_experiments=True,
        filter_string=f"tags.`{STEP_TAG}` = 'evaluate' AND tags.digest = '{digest}' AND attributes.status = 'FINISHED'",
        order_by=["attributes.end_time DESC"],
        max_results=MAX_RUNS,
        output_format="list",
    )
    if not runs:
        return None
    alike = (run for run in runs if like is not None and not differing(_conditions(run), like.conditions))
    run = next(alike, runs[0])
    assert isinstance(run, Run)
    run_id, link, conditions = run.info.run_id, link_of(run), _conditions(run)
    reported = run.data.tags.get(EVIDENCE_TAG) == SELF_REPORTED
    try:
        drives = _drives(run_id, conditions)
        return Evidence(run_id, link, conditions, drives, None, reported, len(runs), _latency(run))
    except _UnreadableError as error:
        return Evidence(run_id, link, conditions, {}, str(error), reported, len(runs))


class _UnreadableError(Exception):
    """Why a run can't be read as evidence; always caught in this file."""


def _conditions(run: Run) -> dict[str, str]:
    conditions = {name: str(run.data.params[name]) for name in PARAMETERS if name in run.data.params}
    for name, (before, now) in _RENAMED.items():
        if conditions.get(name, "").endswith(before):
            conditions[name] = conditions[name].removesuffix(before) + now
    return conditions


def _latency(run: Run) -> Latency | None:
    if LATENCY not in run.data.params:
        return None
    logged = {name: run.data.metrics.get(f"latency/{name}") for name in FIGURES}
    figures = {name: value for name, value in logged.items() if value is not None and math.isfinite(value)}
    return Latency(str(run.data.params.get("latency_kind", "")), figures)


def _drives(run_id: str, conditions: Mapping[str, str]) -> Drives:
    missing = [name for name in REQUIRED if name not in conditions]
    if missing:
        raise _UnreadableError(f"has no parameter {', '.join(missing)}; evaluate it again")
    _check_margin(conditions.get("reward_margin"))
    try:
        drives = read_drives(_table(run_id))
    except RegistryError as error:
        raise _UnreadableError(str(error)) from error
    count = len(drives.get(POLICY, ()))
    if str(count) != conditions["episodes"]:
        raise _UnreadableError(
            f"{TABLE} has {count} episodes of the policy, its parameter says {conditions['episodes']}"
        )
    return drives


def _check_margin(text: str | None) -> None:
    try:
        sound = text is None or 0 < float(text) < math.inf
    except ValueError:
        sound = False
    if not sound:
        raise _UnreadableError(f"its parameter reward_margin is {text!a}, expected a number above 0; evaluate it again")


def _table(run_id: str) -> bytes:
    """The bytes of the run's table; raises _UnreadableError, or MLflow's own errors, when they can't be fetched."""
    listed = [file for file in mlflow.artifacts.list_artifacts(run_id=run_id) if file.path == TABLE and not file.is_dir]
    if not listed:
        raise _UnreadableError(f"has no {TABLE}; evaluate it again")
    if (listed[0].file_size or 0) > MAX_BYTES:
        raise _UnreadableError(f"{TABLE} is larger than {MAX_BYTES >> 20} MiB")
    with tempfile.TemporaryDirectory() as scratch:
        try:
            path = mlflow.artifacts.download_artifacts(run_id=run_id, artifact_path=TABLE, dst_path=scratch)
            return Path(path).read_bytes()
        except OSError as error:  # of the disk, or of the artifact store, which MLflow passes on
            raise _UnreadableError(f"{TABLE} can't be fetched: {one_line(error)}") from error


def link_of(run: Run) -> str:
    """The run's page when the tracking server has one, else its URI."""
    uri = without_password(mlflow.get_tracking_uri()).rstrip("/")
    if uri.startswith(("http://", "https://")):
        return f"{uri}/#/experiments/{run.info.experiment_id}/runs/{run.info.run_id}"
    return f"runs:/{run.info.run_id}"
