"""carla-registry as a user types it."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from tests_support import command_here, registry_here, run_command

from benchmarks.support.free_port import free_port
from benchmarks.support.mlflow_server import MlflowServer

NAME = "racetrack-policy"
PROMOTE = ["promote", f"{NAME}@0.1.0", "--to", "production", "--force", "--reason", "a test"]


def test_register_promote_list_resolve(new_home: Path, example: Path):
    done = run_command("carla-registry", "register", str(example), "--name", NAME)
    assert done.code == 0, done.err
    assert done.out.startswith(f"registered {NAME} 0.1.0  candidate  sha256:")
    again = registry_here("register", str(example))
    assert again.out.startswith("already registered")
    done = registry_here(*PROMOTE, "--expect", "none")
    assert done.code == 0, done.err
    assert "production: none → 0.1.0" in done.out
    done = registry_here("list")
    assert [line.split()[:4] for line in done.out.splitlines()][1] == [NAME, "0.1.0", "production", "production"]
    shown = dict(line.split(maxsplit=1) for line in registry_here("show", NAME + "/1").out.splitlines() if " " in line)
    assert abs(time.mktime(time.strptime(shown["created"].partition(",")[0], "%Y-%m-%d %H:%M")) - time.time()) < 3600
    assert json.loads(registry_here("show", NAME + "/1", "--json").out)["created"] > 1.7e9
    resolved = json.loads(run_command("carla-registry", "resolve", f"{NAME}@production", "--json").out)
    assert resolved["semver"] == "0.1.0"
    assert resolved["digest"].startswith("sha256:")


def test_a_list_that_is_empty_beside_a_demo_says_where_the_demos_registry_is(mlflow_home: Path):
    assert "demo" not in registry_here("list").out
    (mlflow_home / ".demo").mkdir()
    (mlflow_home / ".demo" / "mlflow.db").touch()
    assert f"the demo's registry: cd {mlflow_home}/.demo" in registry_here("list").out


@pytest.mark.parametrize(
    ("arguments", "code", "complaint"),
    [
        (["resolve", "nobody@production"], 1, "no policy named nobody; registered: none"),
        (["resolve", "no reference"], 1, "neither a folder nor a reference"),
        (["promote", ".", "--to", "production"], 1, "'.' is a folder; expected a registered version"),
        (["rollback", "mine@1.0.0"], 2, "'mine@1.0.0' is a version; expected the policy's name alone: mine"),
        (["verify", "."], 1, "model_card.yaml: is missing, so 'home' is no policy artifact"),
        (["promote", "nobody@1.0.0", "--to", "production"], 1, "no policy named nobody"),
        (["register", "nowhere"], 1, "nowhere: there is no such folder"),
        (["register", "policies/nowhere"], 1, "policies/nowhere: there is no such folder"),
        (["register", "runs:/0123456789abcdef0123456789abcdef/policy"], 1, "0123456789abcdef0123456789abcdef"),
        (["register", "runs:/latest/policy"], 1, "no training run yet"),
        (["promote", "a@1.0.0", "--to", "moon"], 2, "invalid choice"),
        ([], 2, "required"),
    ],
)
def test_a_mistake_is_one_clear_line(mlflow_home: Path, arguments: list[str], code: int, complaint: str):
    done = registry_here(*arguments)
    assert done.code == code
    assert complaint in done.err
    assert "Traceback" not in done.err
    if code == 1:
        assert len(done.err.strip().splitlines()) == 1


def test_an_empty_registry_that_nobody_chose_is_said_to_be_that_of_the_folder(
    mlflow_home: Path, monkeypatch: pytest.MonkeyPatch
):
    said = "so this is the registry of the folder that you are in"
    assert said not in registry_here("resolve", "nobody@production").err
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    assert said in run_command("carla-registry", "resolve", "nobody@production").err


@pytest.mark.parametrize("arguments", [["resolve", "nobody@production"], ["register", "runs:/latest/policy"]])
def test_where_the_registry_is_still_to_be_made_a_mistake_is_one_line_too(new_home: Path, arguments: list[str]):
    done = run_command("carla-registry", *arguments)  # MLflow tells of tables and of what it imports in a new process
    assert (done.code, done.out, len(done.err.splitlines())) == (1, "", 1), done.err


def test_an_unreachable_registry_is_named_with_the_time_it_was_tried(mlflow_home: Path):
    uri = f"http://127.0.0.1:{free_port()}"
    done = registry_here("list", env={"MLFLOW_TRACKING_URI": uri})
    assert done.code == 3
    assert f"{uri}: no answer (tried for " in done.err
    assert len(done.err.strip().splitlines()) == 1


def test_an_alias_that_nobody_holds_is_said_with_what_there_is(mlflow_home: Path, example: Path):
    registry_here("register", str(example))
    done = registry_here("resolve", f"{NAME}@production")
    assert done.code == 1
    assert f"{NAME} has 0.1.0 (candidate)" in done.err


def test_the_registry_uri_wins_over_the_tracking_uri(mlflow_home: Path, example: Path, tmp_path: Path):
    other = {"MLFLOW_REGISTRY_URI": f"sqlite:///{tmp_path}/registry.db"}
    assert registry_here("register", str(example), env=other).code == 0
    assert NAME in registry_here("list", env=other).out
    assert NAME not in registry_here("list").out


def test_a_policy_can_not_take_the_name_of_a_journal(mlflow_home: Path, example: Path):
    done = registry_here("register", str(example), "--name", "mine.journal")
    assert (done.code, "is for a policy's history" in done.err) == (1, True)


def test_watch_wants_the_url_of_a_server(mlflow_home: Path):
    done = registry_here("watch", NAME, "--once", "--server", "localhost:8080")
    assert (done.code, "'localhost:8080' is not a URL" in done.err) == (2, True)


def test_a_password_in_the_registrys_uri_is_not_told():
    uri = f"http://ann:opensesame@127.0.0.1:{free_port()}"
    done = registry_here("list", env={"MLFLOW_TRACKING_URI": uri, "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0"})
    assert done.code == 3
    assert "opensesame" not in done.out + done.err


@pytest.mark.slow
@pytest.mark.parametrize(
    "command",
    [
        ["carla-export", "runs:/latest", "--log"],
        ["carla-registry", "register", "runs:/latest/policy"],
        ["training_export", "train", "--total-timesteps", "10"],
    ],
)
def test_a_tracking_server_that_is_away_is_said_by_every_command(mlflow_home: Path, command: list[str]):
    uri = f"http://127.0.0.1:{free_port()}"
    done = command_here(*command, env={"MLFLOW_TRACKING_URI": uri, "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0"})
    assert done.code == 3
    assert f"{uri}: no answer" in done.err
    assert "Traceback" not in done.err


@pytest.mark.slow
def test_everything_works_over_a_tracking_server_and_json_is_one_object(
    start_mlflow: Callable[..., MlflowServer], mlflow_home: Path, example: Path
):
    env = start_mlflow("sqlite").client
    done = run_command("carla-registry", "register", str(example), "--json", env=env)
    assert json.loads(done.out)["semver"] == "0.1.0", done.err
    done = registry_here(*PROMOTE, "--json", env=env)
    assert json.loads(done.out)["version"]["stage"] == "production", done.err
    done = registry_here("resolve", f"{NAME}/Production", "--json", env=env)
    assert json.loads(done.out)["aliases"] == ["production"], done.err
