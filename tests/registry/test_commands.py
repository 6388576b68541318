"""carla-registry as a user types it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests_support import free_port, run_command

NAME = "racetrack-policy"


def test_register_promote_list_resolve(mlflow_home: Path, example: Path):
    done = run_command("carla-registry", "register", str(example), "--name", NAME)
    assert done.code == 0, done.err
    assert done.out.startswith(f"registered {NAME} 0.1.0  candidate  sha256:")
    again = run_command("carla-registry", "register", str(example))
    assert again.out.startswith("already registered")
    done = run_command("carla-registry", "promote", f"{NAME}@0.1.0", "--to", "production", "--expect", "none")
    assert done.code == 0, done.err
    assert "production: none → 0.1.0" in done.out
    done = run_command("carla-registry", "list")
    assert [line.split()[:4] for line in done.out.splitlines()][1] == [NAME, "0.1.0", "production", "production"]
    resolved = json.loads(run_command("carla-registry", "resolve", f"{NAME}@production", "--json").out)
    assert resolved["semver"] == "0.1.0"
    assert resolved["digest"].startswith("sha256:")


@pytest.mark.parametrize(
    ("arguments", "code", "complaint"),
    [
        (["resolve", "nobody@production"], 1, "no policy named nobody; registered: none"),
        (["resolve", "no reference"], 1, "neither a folder nor a reference"),
        (["promote", "nobody@1.0.0", "--to", "production"], 1, "no policy named nobody"),
        (["register", "nowhere"], 1, "nowhere: there is no such folder"),
        (["register", "runs:/0123456789abcdef0123456789abcdef/policy"], 1, "no policy artifact"),
        (["register", "runs:/latest/policy"], 1, "no training run yet"),
        (["promote", "a@1.0.0", "--to", "moon"], 2, "invalid choice"),
        ([], 2, "required"),
    ],
)
def test_a_mistake_is_one_clear_line(mlflow_home: Path, arguments: list[str], code: int, complaint: str):
    done = run_command("carla-registry", *arguments)
    assert done.code == code
    assert complaint in done.err
    assert "Traceback" not in done.err
    if code == 1:
        assert len(done.err.strip().splitlines()) == 1


def test_an_unreachable_registry_is_named_with_the_time_it_was_tried(mlflow_home: Path):
    uri = f"http://127.0.0.1:{free_port()}"
    done = run_command("carla-registry", "list", env={"MLFLOW_TRACKING_URI": uri})
    assert done.code == 3
    assert f"{uri}: the registry does not answer (tried for " in done.err
    assert len(done.err.strip().splitlines()) == 1


def test_an_alias_that_nobody_holds_is_said_with_what_there_is(mlflow_home: Path, example: Path):
    run_command("carla-registry", "register", str(example))
    done = run_command("carla-registry", "resolve", f"{NAME}@production")
    assert done.code == 1
    assert f"{NAME} has 0.1.0 (candidate)" in done.err


def test_the_registry_uri_wins_over_the_tracking_uri(mlflow_home: Path, example: Path, tmp_path: Path):
    other = {"MLFLOW_REGISTRY_URI": f"sqlite:///{tmp_path}/registry.db"}
    assert run_command("carla-registry", "register", str(example), env=other).code == 0
    assert NAME in run_command("carla-registry", "list", env=other).out
    assert NAME not in run_command("carla-registry", "list").out
