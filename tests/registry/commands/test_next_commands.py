"""What our commands print as the next one is run as it stands, by whoever pastes it: here."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import mlflow
import pytest
from own_environment import write_own_files
from tests_support import Finished, command_here, registry_here

from carla_mlflow import Engine, open_artifact, write_artifact
from carla_mlflow.errors import DrivingError
from registry.gates.episodes import differing
from registry.gates.evaluate_command import evaluate_command
from registry.gates.judged_seeds import RACETRACK
from registry.store.evidence import find_evidence
from training_export.evaluation.evaluate import check_racetrack
from training_export.evaluation.own_driving import Outcome
from training_export.evaluation.own_env import open_own_env
from training_export.evaluation.own_evaluation import evaluate_own, log_own
from training_export.export.export import export_policy
from training_export.racetrack.conditions import Conditions
from training_export.racetrack.env import ENV_ID
from training_export.sources.draft import read_draft
from training_export.sources.from_module import from_module

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]


def paste(line: str, *more: str) -> Finished:
    """Runs a command as a shell splits it, in this process."""
    program, *rest = shlex.split(line)
    if program == "python":
        module, program, *rest = rest
        assert module == "-m"
    return command_here(program, *rest, *more)


def next_of(done: Finished) -> str:
    assert done.code == 0, done.err
    [line] = re.findall(r"^next: (.+)$", done.out, re.MULTILINE)
    return str(line)


def test_a_policy_of_an_own_environment_gets_to_production_by_the_commands_that_are_printed(mlflow_home: Path):
    write_own_files(mlflow_home)
    registered = paste(next_of(command_here("carla-export", "my_policy.py:build", "--card", "card.yaml", "--log")))
    evaluate = next_of(registered)
    assert "my_env.py:make stands for your environment" in registered.out
    refused = registry_here("promote", "mine@0.1.0", "--to", "production")
    assert refused.code == 1
    assert f"mine@0.1.0 was not evaluated: {evaluate}" in refused.err
    evaluated = paste(evaluate)
    assert evaluated.code == 0, evaluated.err
    assert evaluated.err.startswith("running the code of my_env.py")
    assert "pass --reward-margin R" in evaluated.out
    promoted = registry_here("promote", "mine@0.1.0", "--to", "production")
    assert promoted.code == 0, promoted.err


def test_the_command_that_drives_as_another_version_was_driven_does(mlflow_home: Path):
    write_own_files(mlflow_home)
    (mlflow_home / "it's.yaml").write_text("length: 9")
    trained = from_module("my_policy.py:build", read_draft(mlflow_home / "card.yaml"))
    artifact = write_artifact(mlflow_home / "mine", export_policy(trained, "mine", "0.1.0", "").artifact)
    engine, own = Engine(artifact, "cpu"), open_own_env("my_env.py:make", mlflow_home / "it's.yaml")
    with pytest.raises(DrivingError, match=r"mine 0.1.0 sees observation \[2\], the racetrack shows speed \[\], steer"):
        check_racetrack(artifact.card)
    conditions, outcome = Conditions(3, 70), Outcome("is_success", "crash")
    driven = evaluate_own(engine, own, conditions, outcome, "my_env.py:still")
    asked = {"env_config": "it's.yaml", "baseline": "my_env.py:still", "reward_margin": 0.5}
    with mlflow.start_run() as run:
        log_own(engine, own, driven, conditions, outcome, asked)
    before = find_evidence(artifact.digest)
    assert before is not None
    assert before.problem is None
    done = paste(evaluate_command(str(mlflow_home / "mine"), artifact.card, before, least=3))
    assert done.code == 0, done.err
    after = find_evidence(artifact.digest)
    assert after is not None
    assert before.run_id == run.info.run_id != after.run_id
    assert differing(before.conditions, after.conditions) == []
    assert before.drives == after.drives


def test_a_policy_of_ours_goes_on_by_the_commands_that_are_printed(mlflow_home: Path):
    trained = command_here("training_export", "train", "--total-timesteps", "2048")
    registered = paste(next_of(paste(next_of(trained), "--episodes", "0")))
    evaluated = paste(next_of(registered), "--episodes", "2", "--duration", "2")
    assert evaluated.code == 0, evaluated.err
    assert "MLflow run" in evaluated.out


def test_the_registry_knows_where_training_drives(example: Path):
    assert RACETRACK == ENV_ID
    assert evaluate_command("a@1.0.0", open_artifact(example).card) == (
        "python -m training_export evaluate a@1.0.0 --log"
    )
    check_racetrack(open_artifact(example).card)
