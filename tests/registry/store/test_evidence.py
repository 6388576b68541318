"""Evidence from real evaluations in MLflow's real store."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import mlflow
import pytest
from tests_support import command_here, registry_here

from benchmarks.support.free_port import free_port
from carla_mlflow import Engine, open_artifact
from carla_mlflow.errors import UnreachableError
from registry.checks.latency import measure_here
from registry.gates.candidate import Candidate, Champion, shortfalls
from registry.gates.episodes import Evidence
from registry.gates.gates import evaluate_gates
from registry.store.evidence import find_evidence
from training_export.evaluation.evaluate import drive_beside, engine_driver, log_evaluation, run_episodes
from training_export.racetrack.conditions import Conditions

pytestmark = pytest.mark.filterwarnings("ignore")  # MLflow's own

SHORT = Conditions(episodes=3, traffic=2, duration_s=1.0)
OTHER = "sha256:" + "0" * 64


@pytest.fixture
def evaluate(mlflow_home: Path, example: Path) -> Callable[..., str]:
    """Really drives the example and logs it; returns the run's id."""
    engine = Engine.open(example)

    def run(conditions: Conditions = SHORT) -> str:
        drives = drive_beside(run_episodes(engine_driver(engine), conditions, "policy"), conditions)
        with mlflow.start_run() as active:
            log_evaluation(engine, drives, conditions)
        return str(active.info.run_id)

    return run


@pytest.fixture
def digest(example: Path) -> str:
    return open_artifact(example).digest


def log_run(digest: str, table: str | None, status: str = "FINISHED", **params: str) -> str:
    """A run as something else than our evaluation may have left it."""
    conditions = {"env": "e", "env_version": "1", "traffic": "0", "duration_s": "1", "first_seed": "0", "episodes": "1"}
    experiment = mlflow.get_experiment_by_name("somewhere") or mlflow.create_experiment("somewhere")
    experiment_id = getattr(experiment, "experiment_id", experiment)
    with mlflow.start_run(experiment_id=experiment_id) as run:
        mlflow.set_tags({"carla.step": "evaluate", "digest": digest})
        mlflow.log_params({key: value for key, value in (conditions | params).items() if value})
        if table is not None:
            mlflow.log_text(table, "episodes.json")
        mlflow.end_run(status)
    return str(run.info.run_id)


def table(*rows: list[object]) -> str:
    return json.dumps({"columns": ["driver", "seed", "reward", "collision", "off_road"], "data": list(rows)})


def test_an_evaluation_is_found_by_digest_with_every_row_and_its_conditions(evaluate, digest: str):
    run_id = evaluate()
    found = find_evidence(digest)
    assert found is not None
    assert found.problem is None
    assert (found.run_id, found.link) == (run_id, f"runs:/{run_id}")
    assert found.conditions["env"] == "racetrack-v1"
    assert found.conditions["env_version"].endswith(", revision 1")
    assert [found.conditions[key] for key in ("traffic", "duration_s", "first_seed", "episodes")] == [
        "2", "1.0", "10000", "3"
    ]  # fmt: skip
    for driver in ("policy", "straight_ahead"):
        assert [row.seed for row in found.drives[driver]] == [10000, 10001, 10002]
    assert found.drives["policy"][0].reward > 0
    assert find_evidence(OTHER) is None
    assert find_evidence("") is None
    assert find_evidence("' OR tags.digest LIKE '%") is None


def test_an_environment_that_was_told_by_the_hash_of_its_files_is_told_by_its_revision(digest: str, mlflow_home: Path):
    log_run(digest, table(["policy", 0, 1.0, False, False]), env_version="highway-env 1.12.1, code d6d0fa36")
    found = find_evidence(digest)
    assert found is not None
    assert found.conditions["env_version"] == "highway-env 1.12.1, revision 1"


def test_what_a_person_looks_at_lies_beside_the_rows(evaluate):
    run = mlflow.get_run(evaluate())
    names = {file.path for file in mlflow.artifacts.list_artifacts(run_id=run.info.run_id)}
    assert names == {"episodes.json", "outcomes.png", "trajectories.png", "episode.gif", "model_card.yaml"}
    assert run.data.tags["policy"] == "racetrack-policy"
    assert {"policy/collision_rate", "straight_ahead/reward_mean", "random/off_road_rate"} <= set(run.data.metrics)


def test_the_newest_counts_unless_an_older_one_has_the_wanted_conditions(evaluate, digest: str):
    first = evaluate()
    wanted = find_evidence(digest)
    newest = evaluate(replace(SHORT, episodes=2))
    found = find_evidence(digest)
    assert found is not None
    assert found.run_id == newest
    again = find_evidence(digest, like=wanted)
    assert again is not None
    assert again.run_id == first
    nowhere = replace(wanted, conditions={**wanted.conditions, "traffic": "9"})
    other = find_evidence(digest, like=nowhere)
    assert other is not None
    assert other.run_id == newest


def test_evaluations_in_any_experiment_are_found(mlflow_home: Path):
    run_id = log_run(OTHER, table(["policy", 0, 1.0, False, False]))
    found = find_evidence(OTHER)
    assert found is not None
    assert found.run_id == run_id
    assert found.problem is None


def test_what_did_not_finish_or_was_deleted_is_no_evidence(mlflow_home: Path):
    for status in ("FAILED", "KILLED"):
        log_run(OTHER, table(["policy", 0, 1.0, False, False]), status)
    deleted = log_run(OTHER, table(["policy", 0, 1.0, False, False]))
    mlflow.delete_run(deleted)
    with mlflow.start_run():  # still running
        mlflow.set_tags({"carla.step": "evaluate", "digest": OTHER})
        assert find_evidence(OTHER) is None


def test_a_run_that_is_no_evidence_says_what_is_wrong_with_it(mlflow_home: Path):
    one = table(["policy", 0, 1.0, False, False])
    for content, params, problem in (
        (None, {}, "has no episodes.json; evaluate it again"),
        ("<html>", {}, "episodes.json: JSON is malformed"),
        (one, {"env_version": ""}, "has no parameter env_version"),
        (one, {"episodes": "2"}, "has 1 episodes of the policy, its parameter says 2"),
        (table(["straight_ahead", 0, 1.0, False, False]), {}, "has 0 episodes of the policy"),
    ):
        run_id = log_run(OTHER, content, **params)
        found = find_evidence(OTHER)
        assert found is not None
        assert found.run_id == run_id
        assert found.drives == {}
        assert problem in (found.problem or "")


@pytest.mark.parametrize("hangs", [False, True])
def test_an_mlflow_that_is_away_is_said_in_time_and_without_its_password(monkeypatch, hangs: bool):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1] if hangs else free_port()
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://someone:hunter2@127.0.0.1:{port}")
        monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
        monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "3")
        with pytest.raises(UnreachableError, match=rf"http://127.0.0.1:{port}: no answer") as caught:
            find_evidence(OTHER, deadline_s=1.0)
        assert "hunter2" not in str(caught.value)
        for thread in threading.enumerate():  # it still asks, and the next test has another MLflow
            if thread.name == "registry":
                thread.join()


def test_what_is_measured_here_is_a_time_or_a_reason(example: Path, copy: Path):
    whole = measure_here(lambda: open_artifact(example))
    assert whole.problem is None
    assert whole.artifact is not None
    assert whole.decision_ms is not None
    assert whole.decision_ms > 0
    (copy / "model.onnx").write_bytes(b"nonsense")
    broken = measure_here(lambda: open_artifact(copy))
    assert "model.onnx" in (broken.problem or "")
    assert broken.artifact is None
    assert broken.decision_ms is None


def test_a_registry_that_is_away_says_nothing_of_the_artifact():
    def fetch() -> None:
        raise UnreachableError("no answer")

    with pytest.raises(UnreachableError):
        measure_here(fetch)  # type: ignore[arg-type]


@pytest.mark.slow
def test_a_registered_version_is_evaluated_by_its_reference_and_passes_every_gate(mlflow_home, example, digest: str):
    assert registry_here("register", str(example)).code == 0
    reference = "racetrack-policy@0.1.0"
    short = ("--duration", "10")  # the whole default number of episodes, but each a third as long
    done = command_here("training_export", "evaluate", reference, "--log", *short)
    assert done.code == 0, done.err
    evidence, here = find_evidence(digest), measure_here(lambda: open_artifact(example))
    assert here.artifact is not None
    candidate = Candidate(reference, here.problem, here.artifact.card, here.decision_ms, evidence)
    assert shortfalls(evaluate_gates(candidate, None)) == ()
    assert shortfalls(evaluate_gates(candidate, Champion("racetrack-policy@0.0.9", (), evidence))) == ()
    assert evidence is not None
    lost = Evidence("run", "runs:/run", evidence.conditions, {"policy": evidence.drives["straight_ahead"]})
    refused = shortfalls(
        evaluate_gates(replace(candidate, evidence=lost), Champion("racetrack-policy@0.0.9", (), evidence))
    )
    assert refused[0].startswith("driving: collisions or off road in 60 of 60 episodes")


@pytest.mark.slow
def test_a_version_that_is_not_registered_is_one_clear_line(mlflow_home: Path):
    done = command_here("training_export", "evaluate", "nobody@0.1.0", "--log")
    assert done.code == 1
    assert "no policy named nobody; registered: none" in done.err
    assert len(done.err.strip().splitlines()) == 1
    away = {"MLFLOW_TRACKING_URI": f"http://127.0.0.1:{free_port()}"}
    done = command_here("training_export", "evaluate", "nobody@0.1.0", env=away)
    assert done.code == 3
    assert "no answer" in done.err
