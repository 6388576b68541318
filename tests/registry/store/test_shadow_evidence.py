"""What shadows logged, as the gate reads it: from real runs in MLflow's real store."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import mlflow
import pytest

from carla_mlflow import open_artifact
from registry.store.shadow_evidence import find_shadow_evidence
from serve.shadow.evidence_log import Finding, log_finding

pytestmark = pytest.mark.filterwarnings("ignore")  # MLflow's own

CHAMPION, OTHER = "sha256:" + "1" * 64, "sha256:" + "2" * 64


def finding(example: Path, rows: int, disagreements: int, against: str = CHAMPION, run: str | None = None) -> Finding:
    artifact = open_artifact(example)
    counts = {"rows": rows, "disagreements": disagreements, "skipped": 3}
    dimension: dict[str, Any] = {"name": "steer", "mean": 0.1, "p50": 0.1, "p90": 0.2, "p99": 0.3, "max": 0.4}
    figures = {"dimensions": [dimension]}
    return Finding(artifact.card, artifact.digest, against, "0.0.9", {"share": 0.2}, counts, figures, run)


@pytest.fixture
def digest(example: Path) -> str:
    return open_artifact(example).digest


def test_the_runs_of_all_servers_beside_the_same_champion_are_added_up(mlflow_home: Path, example: Path, digest: str):
    first = log_finding(finding(example, 100, 1))
    second = log_finding(finding(example, 50, 2))
    log_finding(finding(example, 9, 9, against=OTHER))
    found = find_shadow_evidence(digest, CHAMPION)
    assert found is not None
    assert (found.rows, found.disagreements, found.skipped, found.problem) == (150, 3, 6, None)
    assert set(found.links) == {f"runs:/{first}", f"runs:/{second}"}
    assert find_shadow_evidence(OTHER, CHAMPION) is None
    assert find_shadow_evidence("' OR tags.digest LIKE '%", CHAMPION) is None


def test_a_run_that_goes_on_counts_as_far_as_it_has_come(mlflow_home: Path, example: Path, digest: str):
    run = log_finding(finding(example, 0, 0))
    assert log_finding(finding(example, 70, 7, run=run)) == run
    mlflow.MlflowClient().set_terminated(run, "RUNNING")  # as a server that was killed leaves it
    found = find_shadow_evidence(digest, CHAMPION)
    assert found is not None
    assert (found.rows, found.disagreements) == (70, 7)
    assert mlflow.get_run(run).data.metrics["steer/p99"] == 0.3


@pytest.mark.parametrize("changed", [{"shadow/rows": 1.5}, {"shadow/rows": -1.0}, {"shadow/disagreements": 71.0}])
def test_a_run_with_impossible_counts_is_a_problem_that_names_it(
    mlflow_home: Path, example: Path, digest: str, changed: dict[str, float]
):
    run = log_finding(finding(example, 70, 7))
    with mlflow.start_run(run_id=run):
        mlflow.log_metrics(changed)
    found = find_shadow_evidence(digest, CHAMPION)
    assert found is not None
    assert run in (found.problem or "")


def test_a_shadows_run_is_no_evidence_of_driving(mlflow_home: Path, example: Path, digest: str):
    from registry.store.evidence import find_evidence

    log_finding(finding(example, 100, 1))
    assert find_evidence(digest) is None
