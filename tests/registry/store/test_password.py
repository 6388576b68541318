"""A registry that asks for a password: what is refused is said in one line."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
from tests_support import registry_here, run_command

from benchmarks.support.mlflow_server import MlflowServer

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("basic-auth"), pytest.mark.filterwarnings("ignore")]
NAME = "racetrack-policy"


@pytest.fixture(scope="module")
def guarded(start_mlflow: Callable[..., MlflowServer]) -> Iterator[MlflowServer]:
    server = start_mlflow("basic-auth")
    yield server
    server.kill()


def login(server: MlflowServer, user: str | None, password: str | None) -> dict[str, str]:
    given = {"MLFLOW_TRACKING_USERNAME": user, "MLFLOW_TRACKING_PASSWORD": password}
    return {"MLFLOW_TRACKING_URI": server.uri, **{name: value for name, value in given.items() if value is not None}}


@pytest.mark.parametrize(
    "credentials",
    [("admin", "wrong-password-1"), ("nobody", "correct-horse-battery"), (None, None)],
    ids=["wrong password", "unknown user", "none"],
)
@pytest.mark.parametrize("command", [["list"], ["resolve", f"{NAME}@production"], ["register", "EXAMPLE"]])
def test_who_is_not_known_is_refused_in_one_line(
    guarded: MlflowServer, mlflow_home: Path, example: Path, credentials: tuple[str, str], command: list[str]
):
    command = [str(example) if word == "EXAMPLE" else word for word in command]
    run = partial(run_command, "carla-registry") if command == ["list"] else registry_here
    done = run(*command, env=login(guarded, *credentials))
    assert done.code == 1, done.err
    [line] = done.err.strip().splitlines()
    assert "not authenticated" in line
    assert "<html" not in line.lower()
    assert "wrong-password-1" not in line


def test_who_may_only_read_can_resolve_but_not_promote(
    guarded: MlflowServer, mlflow_home: Path, example: Path, monkeypatch: pytest.MonkeyPatch
):
    from mlflow.server.auth.client import AuthServiceClient  # warns of SQLAlchemy's future when it is imported

    for variable, value in guarded.client.items():
        monkeypatch.setenv(variable, value)
    assert registry_here("register", str(example)).code == 0
    AuthServiceClient(guarded.uri).create_user("reader", "reads-and-nothing-more")
    reader = login(guarded, "reader", "reads-and-nothing-more")
    assert registry_here("resolve", f"{NAME}@0.1.0", env=reader).code == 0
    done = run_command(
        "carla-registry", "promote", f"{NAME}@0.1.0", "--to", "production", "--force", "--reason", "a test", env=reader
    )
    assert done.code == 1, done.err
    [line] = done.err.strip().splitlines()
    assert "Permission denied" in line
    assert "production" not in registry_here("list").out
