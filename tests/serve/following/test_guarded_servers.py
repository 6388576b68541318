"""A real policy that saturates is rolled back by a guard of real servers, which follow a real registry."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from following_support import metric, served, until
from registry_policies import NAME, steering
from tests_support import Server, registry_here, run_command

from benchmarks.policies.two_policies import Questions
from benchmarks.support.mlflow_server import MlflowServer
from benchmarks.support.steady_load import SteadyLoad
from carla_mlflow import open_artifact
from registry.store.store import Store

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]  # MLflow's own

PAUSE_S = 0.01
FORCED = ("--force", "--reason", "untrained, and on a machine that may be busy")


@pytest.fixture
def policies(tmp_path: Path) -> list[str]:
    """The second is full pedal or full lock, whatever it sees; the others never are."""
    shares = {"0.1.0": 0.1, "0.2.0": 1000.0, "0.3.0": 0.12}
    return [steering(tmp_path, version, share) for version, share in shares.items()]


@pytest.fixture
def driven(
    start_mlflow: Callable[..., MlflowServer],
    start_server: Callable[..., Server],
    policies: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Server]:
    """A server that follows staging, where 0.1.0 is, under load."""
    for name, value in start_mlflow("sqlite").client.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    for policy in policies:
        assert registry_here("register", policy).code == 0
    assert registry_here("promote", f"{NAME}@0.1.0", "--to", "staging", *FORCED).code == 0
    server = start_server("--model", f"{NAME}@staging", "--workers", "2", "--poll-s", "0.5")
    server.wait_ready()
    with SteadyLoad(server.url, Questions([open_artifact(policy) for policy in policies]), 4, PAUSE_S) as record:
        until(lambda: (metric(server, "policy_actions_total", version="0.1.0") or 0) > 3000, server)
        yield server
    assert record.failed == []
    assert record.wrong == []


def bake(server: Server, version: str, duration: str) -> None:
    alarms = ("--alarm", "saturation>2x", "--alarm", "fallback_rate>0.01", "--alarm", "p99_ms>1000")
    flags = ("--bake", duration, *alarms, "--servers", server.url)
    done = registry_here("promote", f"{NAME}@{version}", "--to", "staging", *FORCED, *flags)
    assert done.code == 0, done.err


def check_comparison(driven: Server) -> None:
    until(lambda: (metric(driven, "policy_actions_total", version="0.2.0") or 0) > 300, driven)
    compared = registry_here("compare", f"{NAME}@0.1.0", f"{NAME}@staging", "--from", driven.url, "--json")
    assert compared.code == 0, compared.err
    found = json.loads(compared.out)
    assert found[f"{NAME}@staging"]["saturation"] > 0.4 > found[f"{NAME}@0.1.0"]["saturation"]
    assert found[f"{NAME}@0.1.0"]["actions"] > 3000
    assert found[f"{NAME}@staging"]["p50_ms"] > 0


def test_a_policy_that_saturates_is_rolled_back_and_one_that_does_not_has_baked(driven: Server):
    bake(driven, "0.2.0", "30m")
    check_comparison(driven)
    guard = ("guard", NAME, "--servers", driven.url, "--every", "1s", "--once", "--json")
    done = run_command("carla-registry", *guard)
    assert done.code == 1, done.err
    last = json.loads(done.out.splitlines()[-1])
    assert (last["event"], last["version"]) == ("rolled back", "0.2.0")
    assert "staging: 0.2.0 → 0.1.0, as saturation>2x: " in last["text"]
    assert Store().holders(NAME) == {"staging": "0.1.0"}
    until(lambda: served(driven) == {"0.1.0"}, driven)

    bake(driven, "0.3.0", "3s")
    done = run_command("carla-registry", *guard)
    assert done.code == 0, done.err
    assert Store().holders(NAME) == {"staging": "0.3.0"}
    kinds = [entry["kind"] for entry in json.loads(registry_here("history", NAME, "--json").out)["entries"]]
    assert kinds == ["register"] * 3 + ["promote"] * 2 + ["rollback", "promote", "baked"]
