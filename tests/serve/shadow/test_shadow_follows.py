"""A shadow that follows a reference of the registry, and what it logs there."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import mlflow
import pytest
from following_support import Registry, until
from shadow_support import Asking, process_of, shadow_of, wait_rows, wait_up
from tests_support import Server

from benchmarks.policies.two_policies import NAME
from carla_mlflow import Engine
from registry.store.shadow_evidence import find_shadow_evidence

Start = Callable[..., Server]
pytestmark = [
    pytest.mark.xdist_group("following"),
    pytest.mark.filterwarnings("ignore"),  # MLflow's own warnings
]

_aliases = (f"shadowed-{number}" for number in itertools.count())


def test_it_follows_its_own_alias_which_may_come_later_and_counts_each_version_by_itself(
    registry: Registry, start_server: Start
):
    served, shadow = next(_aliases), next(_aliases)
    registry.point(served, "1")
    server = start_server("--model", f"{NAME}@{served}", "--shadow", f"{NAME}@{shadow}", "--poll-s", "0.2")
    server.wait_ready()
    until(lambda: shadow_of(server)["reason"] == f"the registry has no {NAME}@{shadow}", server)
    asking = Asking(server, Engine(registry.artifacts[0], "cpu"))
    asking.ask(10)
    registry.point(shadow, "2")
    wait_up(server, "1.1.0")
    wait_rows(server, 10)  # the ring had them still
    assert shadow_of(server)["following"] == f"{NAME}@{shadow}"
    registry.point(shadow, "1")
    wait_up(server, "1.0.0")
    asking.ask(5)
    wait_rows(server, 5)
    [beside] = shadow_of(server)["beside"]
    assert beside["figures"]["equal"] == 5  # it is what is served
    assert server.get("/readyz").json == {"ready": True, "warnings": []}


def test_what_it_finds_is_evidence_for_the_gate_also_after_its_process_died(registry: Registry, start_server: Start):
    served = next(_aliases)
    registry.point(served, "1")
    server = start_server("--model", f"{NAME}@{served}", "--shadow", f"{NAME}@1.1.0", "--shadow-log")
    server.wait_ready()
    wait_up(server)
    asking = Asking(server, Engine(registry.artifacts[0], "cpu"))
    asking.ask(30)
    wait_rows(server, 30)

    def run() -> str | None:
        return next((beside["run"] for beside in shadow_of(server)["beside"]), None)

    def rows() -> int:
        found = find_shadow_evidence(registry.artifacts[1].digest, registry.artifacts[0].digest)
        return found.rows if found else 0

    until(run, server)
    until(lambda: rows() == 30, server)
    before = run()
    process_of(server).kill()
    until(lambda: shadow_of(server)["starts"] == 2, server)
    wait_up(server)
    asking.ask(10)
    wait_rows(server, 40)
    until(lambda: rows() == 40, server)
    assert run() == before
    assert shadow_of(server)["unlogged"] is None
    logged = mlflow.get_run(before)
    assert logged.data.tags["semver"] == "1.1.0"
    assert logged.data.tags["against_semver"] == "1.0.0"
    assert logged.data.metrics["shadow/disagreements"] == shadow_of(server)["counts"]["disagreements"]
    assert {"steer/mean", "acceleration/p99"} <= logged.data.metrics.keys()
    assert {file.path for file in mlflow.artifacts.list_artifacts(run_id=before)} == {"shadow.json"}
