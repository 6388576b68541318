"""MLflow's own buttons "Promote model" and "Register model", clicked: told, served by digest, and followed."""

from __future__ import annotations

import shlex
import tempfile
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import mlflow
import msgspec
import pytest
from following_support import until
from mlflow_ui import promote_model, register_model, set_alias
from patience import PATIENCE_S
from playwright.sync_api import Page
from registry_policies import changed, enter, logged, steering, to_stage
from tests_support import Server, registry_here

from benchmarks.policies.two_policies import Questions, write
from benchmarks.support.mlflow_server import MlflowServer
from carla_mlflow import Artifact, open_artifact
from carla_mlflow.flavor.model import log_policy
from carla_mlflow.flavor.runs import logging_run
from registry.store.store import Store

pytestmark = [
    pytest.mark.slow,
    pytest.mark.browser,
    pytest.mark.xdist_group("browser"),
    pytest.mark.filterwarnings("ignore"),  # MLflow's own
]


@cache
def artifacts() -> list[Artifact]:
    """Two versions with other weights, so that their answers differ."""
    with tempfile.TemporaryDirectory() as folder:
        sources = changed(Path(folder), "1.0.0"), steering(Path(folder), "1.1.0", 0.5)
        return [open_artifact(source) for source in sources]


@cache
def questions() -> Questions:
    return Questions(artifacts(), 16)


@dataclass
class Cars:
    """Two versions of one model, the first in production there, and the name of a model that is still to be made."""

    uri: str
    source: str
    name: str

    def copy(self, page: Page, number: str) -> None:
        """By clicks, under the same number: into a new model first, then into the one that is there."""
        sent = promote_model(page, self.uri, self.source, number, self.name, new=number == "1")
        assert (sent["name"], sent["source"]) == (self.name, f"models:/{self.source}/{number}")

    def register(self, page: Page, artifact: Artifact, new: bool) -> None:
        """Logs an artifact and registers it by clicks."""
        with logging_run() as run:
            log_policy(artifact)
        found = mlflow.search_logged_models(output_format="list")
        model = next(each for each in found if each.source_run_id == run)
        sent = register_model(page, self.uri, model, self.name, new)
        assert (sent["name"], sent["model_id"]) == (self.name, model.model_id)

    def put_in_production(self, page: Page, number: str) -> None:
        set_alias(page, self.uri, self.name, number, "production")


@pytest.fixture(scope="module")
def sources(mlflow_server: MlflowServer, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    folder = tmp_path_factory.mktemp("trained")
    return logged(mlflow_server.uri, [str(write(artifact, folder)) for artifact in artifacts()])


@pytest.fixture
def cars(mlflow_server: MlflowServer, sources: list[str], mlflow_home: Path, monkeypatch: pytest.MonkeyPatch) -> Cars:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", mlflow_server.uri)
    tail = uuid.uuid4().hex[:4]
    for source in sources:
        enter(Store(), source, f"trained-{tail}")
    to_stage(Store(), f"trained-{tail}@1.0.0", "production", force=True, reason="on a machine that may be busy")
    return Cars(mlflow_server.uri, f"trained-{tail}", f"cars-{tail}")


def told(*arguments: str) -> str:
    done = registry_here(*arguments)
    assert done.code == 0, done.err
    return done.out


def driving(server: Server) -> str:
    """The version that answers, which it does with the digest and the bits of the engine of what was registered."""
    found = set()
    for index, body in enumerate(questions().bodies):
        answer = server.post("/predict", body)
        assert answer.status == 200, answer.body
        assert questions().is_right(index, answer.json)
        digests = {artifact.digest: artifact.card.version for artifact in artifacts()}
        assert digests[answer.json["digest"]] == answer.json["version"]
        found.add(answer.json["version"])
    return max(found)


def test_a_copy_made_by_the_button_is_told_by_every_command_like_any_other(cars: Cars, page: Page):
    cars.copy(page, "1")
    digest = artifacts()[0].digest
    line = next(line for line in told("list", cars.name).splitlines() if line.startswith(cars.name))
    assert line.split()[:5] == [cars.name, "1.0.0", "candidate", "-", "1"]
    shown = msgspec.json.decode(told("show", f"{cars.name}/1", "--json"))
    assert (shown["semver"], shown["digest"], shown["stage"]) == ("1.0.0", digest, "candidate")
    cars.put_in_production(page, "1")
    assert digest in told("resolve", f"{cars.name}@production")
    first, second, _ = told("history", cars.name).splitlines()
    assert "1.0.0 registered" in first
    assert "without an entry in the journal" in first
    assert "seen in MLflow's UI: 1.0.0 → production" in second
    assert told("history", cars.name, "--check").startswith("intact: 2 entries")
    assert told("history", cars.source, "--check").startswith("intact: 3 entries")  # nothing moved where it came from


def test_a_server_follows_an_alias_from_copy_to_copy_and_back(
    cars: Cars, page: Page, start_server: Callable[..., Server]
):
    cars.copy(page, "1")
    cars.put_in_production(page, "1")
    server = start_server("--model", f"{cars.name}@production", "--poll-s", "1")
    server.wait_ready()
    assert driving(server) == "1.0.0"
    cars.copy(page, "2")
    assert driving(server) == "1.0.0"  # a copy alone moves nothing
    told("history", cars.name)  # a roll-back goes to what somebody has seen in production
    cars.put_in_production(page, "2")
    until(lambda: driving(server) == "1.1.0", server)
    told("rollback", cars.name)
    until(lambda: driving(server) == "1.0.0", server)
    assert server.stop() == 0


def test_a_server_goes_on_and_tells_the_command_where_the_alias_goes_to_what_the_button_registered(
    cars: Cars, page: Page, start_server: Callable[..., Server]
):
    cars.copy(page, "1")
    cars.put_in_production(page, "1")
    server = start_server("--model", f"{cars.name}@production", "--poll-s", "1")
    server.wait_ready()
    cars.register(page, artifacts()[1], new=False)
    cars.put_in_production(page, "2")
    command = f"carla-registry register models:/{cars.name}/2"
    until(lambda: command in server.get("/readyz").body.decode(), server)
    assert server.get("/readyz").status == 200
    assert driving(server) == "1.0.0"
    done = registry_here(*shlex.split(command)[1:])
    assert done.code == 0, done.err
    until(lambda: driving(server) == "1.1.0", server)
    assert command not in server.get("/readyz").body.decode()
    assert "1.1.0" in told("resolve", f"{cars.name}@production")


def test_what_the_button_registered_is_told_with_what_it_lacks_and_drives_after_the_one_command(
    cars: Cars, page: Page, start_server: Callable[..., Server]
):
    cars.register(page, artifacts()[0], new=True)
    cars.put_in_production(page, "1")
    command = f"carla-registry register models:/{cars.name}/1"
    refused = start_server("--model", f"{cars.name}@production")
    assert refused.process.wait(PATIENCE_S) == 1
    for text in (refused.log.read_text(), told("list", cars.name)):
        line = text.strip().splitlines()[-1]
        assert f"version 1 of {cars.name} without a semantic version and digest" in line
        assert line.endswith(command)
    done = registry_here(*shlex.split(command)[1:])
    assert done.code == 0, done.err
    server = start_server("--model", f"{cars.name}@production")
    server.wait_ready()
    assert driving(server) == "1.0.0"
    assert artifacts()[0].digest in told("resolve", f"{cars.name}@production")
