"""A policy is promoted in MLflow's own UI, by clicks and typing, and drives."""

from __future__ import annotations

import subprocess
import sys
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from following_support import until
from mlflow import MlflowClient
from mlflow_ui import set_alias, set_stage
from playwright.sync_api import Page
from registry_policies import changed, enter, logged, to_stage
from tests_support import Server

from benchmarks.support.mlflow_server import MlflowServer
from registry.rules.reference import parse_reference
from registry.store.store import Store

pytestmark = [
    pytest.mark.slow,
    pytest.mark.browser,
    pytest.mark.xdist_group("browser"),
    pytest.mark.filterwarnings("ignore"),  # MLflow's own
]
OBSERVATIONS = {"observations": [{"speed": 6, "steering": 0, "sensors": [0.5] * 12}]}


@dataclass
class Policy:
    """A policy with 0.1.0 in production, by alias and by legacy stage, and 0.2.0 that wants to be."""

    server: MlflowServer
    name: str

    def resolved(self, selector: str) -> str:
        return Store().resolve(parse_reference(self.name + selector)).semver

    def set_alias(self, page: Page) -> None:
        sent = set_alias(page, self.server.uri, self.name, "2", "production")
        assert sent == {"name": self.name, "alias": "production", "version": "2"}

    def set_stage(self, page: Page) -> None:
        sent = set_stage(page, self.server.uri, self.name, "2", "Production")
        assert (sent["name"], sent["version"], sent["stage"]) == (self.name, "2", "Production")


@pytest.fixture(scope="module")
def sources(mlflow_server: MlflowServer, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    folder = tmp_path_factory.mktemp("lane-keeper")
    return logged(mlflow_server.uri, [changed(folder, version) for version in ("0.1.0", "0.2.0")])


@pytest.fixture
def policy(
    mlflow_server: MlflowServer, sources: list[str], mlflow_home: Path, monkeypatch: pytest.MonkeyPatch
) -> Policy:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", mlflow_server.uri)
    name = f"lane-keeper-{uuid.uuid4().hex[:4]}"
    store = Store()
    for source in sources:
        enter(store, source, name)
    to_stage(store, f"{name}@0.1.0", "production")
    assert MlflowClient().get_model_version(name, "1").current_stage == "Production"
    return Policy(mlflow_server, name)


def driving(server: Server) -> str:
    answer = server.post("/predict", OBSERVATIONS)
    assert answer.status == 200, answer.body
    return str(answer.json["version"])


def comes_to_drive(server: Server, version: str) -> None:
    """Waits until the version answers; every answer on the way is a good one."""
    until(lambda: driving(server) == version, server)


@pytest.mark.parametrize(
    ("follows", "click"), [("@production", Policy.set_alias), ("/Production", Policy.set_stage)], ids=["alias", "stage"]
)
def test_what_is_set_by_clicks_is_what_resolves_and_what_a_running_server_follows(
    policy: Policy, page: Page, start_server: Callable[..., Server], follows: str, click: Callable[[Policy, Page], None]
):
    server = start_server("--model", policy.name + follows, "--poll-s", "1")
    server.wait_ready()
    assert driving(server) == "0.1.0"
    click(policy, page)
    assert policy.resolved(follows) == "0.2.0"
    comes_to_drive(server, "0.2.0")
    server.stop()


def test_the_watcher_gives_the_alias_to_the_version_that_a_person_moved_by_its_legacy_stage(
    policy: Policy, page: Page, start_server: Callable[..., Server]
):
    server = start_server("--model", f"{policy.name}@production", "--poll-s", "1")
    server.wait_ready()
    watcher = subprocess.Popen([str(Path(sys.executable).parent / "carla-registry"), "watch", policy.name])
    try:
        policy.set_stage(page)
        comes_to_drive(server, "0.2.0")
        assert policy.resolved("@production") == "0.2.0"
    finally:
        watcher.kill()
        watcher.wait()
        server.stop()
