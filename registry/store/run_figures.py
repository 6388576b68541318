"""Reads what evaluations and shadows logged as figures, for people: the gates read episodes (`evidence`)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import mlflow
from mlflow.entities import Run

from carla_mlflow.flavor.database import without_password
from carla_mlflow.flavor.runs import STEP_TAG
from registry.store.calls import call_with_deadline
from registry.store.evidence import link_of

_RUN = re.compile(r"(?:runs:/|/runs/)([0-9a-f]{32})")
AT_ONCE = 100
"""How many runs are asked for in one call."""
DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


@dataclass(frozen=True)
class RunFigures:
    """What one run logged.

    Attributes:
        run_id: the run's.
        experiment_id: its experiment's.
        link: its page, or its URI.
        step: evaluate or shadow.
        version: the semantic version that drove, as the run says.
        ended: seconds since 1970; 0 while it goes on.
        metrics: name → the last value.
        parameters: the conditions.
    """

    run_id: str
    experiment_id: str
    link: str
    step: str
    version: str
    ended: float
    metrics: Mapping[str, float]
    parameters: Mapping[str, str]

    def of(self, driver: str) -> dict[str, float]:
        """The figures of one driver: name → value."""
        prefix = f"{driver}/"
        return {name.removeprefix(prefix): v for name, v in self.metrics.items() if name.startswith(prefix)}


def run_id_of(link: str) -> str | None:
    """The id of the run that a move's evidence links; None where it links none."""
    found = _RUN.search(link)
    return found[1] if found else None


def read_runs(links: Iterable[str], deadline_s: float = 30.0) -> dict[str, RunFigures]:
    """Run id → its figures, of all runs in these links that are still there.

    Raises:
        UnreachableError: MLflow does not answer in time.
        RegistryError: MLflow refused the call.
    """
    ids = list(dict.fromkeys(found for link in links if (found := run_id_of(link))))
    runs: dict[str, RunFigures] = {}
    for start in range(0, len(ids), AT_ONCE):
        listed = ", ".join(f"'{each}'" for each in ids[start : start + AT_ONCE])
        for each in _search(f"attributes.run_id IN ({listed})", AT_ONCE, deadline_s):
            runs[each.run_id] = each
    return runs


def latest_evaluation(digest: str, deadline_s: float = 30.0) -> RunFigures | None:
    """The newest finished evaluation of an artifact; None when there is none. Raises as `read_runs`."""
    if not DIGEST.fullmatch(digest):
        return None
    query = f"tags.`{STEP_TAG}` = 'evaluate' AND tags.digest = '{digest}' AND attributes.status = 'FINISHED'"
    return next(iter(_search(query, 1, deadline_s)), None)


def _search(query: str, most: int, deadline_s: float) -> list[RunFigures]:
    found = call_with_deadline(
        without_password(mlflow.get_tracking_uri()),
        deadline_s,
        mlflow.search_runs,
        search_all_experiments=True,
        filter_string=query,
        order_by=["attributes.end_time DESC"],
        max_results=most,
        output_format="list",
    )
    return [_figures(run) for run in found if isinstance(run, Run)]


def _figures(run: Run) -> RunFigures:
    info, data = run.info, run.data
    return RunFigures(
        info.run_id,
        info.experiment_id,
        link_of(run),
        data.tags.get(STEP_TAG, ""),
        data.tags.get("semver", ""),
        (info.end_time or 0) / 1e3,
        dict(data.metrics),
        dict(data.params),
    )
