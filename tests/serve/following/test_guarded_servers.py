"""A real policy that saturates is rolled back by a guard of real servers, which follow a real registry."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from following_support import metric, served, until
from tests_support import Server, registry_here, run_command

from benchmarks.policies.networks import FULL_BRAKE, UNIT, Mlp
from benchmarks.policies.two_policies import NAME, Questions, small_policy, write
from benchmarks.support.mlflow_server import MlflowServer
from benchmarks.support.steady_load import SteadyLoad
from carla_mlflow import Artifact
from carla_mlflow.contract.action_card import ActionCard
from carla_mlflow.contract.field_card import FieldCard
from registry.store.store import Store
from training_export.export.export import export_policy
from training_export.sources.draft import CardDraft
from training_export.sources.from_module import from_network
from training_export.sources.preprocessed import Preprocessed

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]  # MLflow's own

PAUSE_S = 0.01
FORCED = ("--force", "--reason", "untrained, and on a machine that may be busy")


def saturating(version: str) -> Artifact:
    """Full pedal or full lock, whatever it sees; the contract is that of `small_policy`."""
    torch.manual_seed(3)
    network = Mlp().eval()
    with torch.no_grad():
        network.layers[-1].weight *= 1000
    section = {"state": FieldCard("float32", [16], -5.0, 5.0)}
    raw = {"throttle": (0.0, 1.0), "brake": (0.0, 1.0), "steer": UNIT}
    action = ActionCard("deterministic", raw, "throttle_brake_steer", 20.0, FULL_BRAKE)
    trained = from_network("small", network, CardDraft(), section, action, Preprocessed())
    return export_policy(trained, NAME, version, "saturates").artifact


@pytest.fixture
def policies(tmp_path: Path) -> list[Artifact]:
    return [small_policy("0.1.0", 1), saturating("0.2.0"), small_policy("0.3.0", 2)]


@pytest.fixture
def driven(
    start_mlflow: Callable[..., MlflowServer],
    start_server: Callable[..., Server],
    policies: list[Artifact],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Server]:
    """A server that follows staging, where 0.1.0 is, under load."""
    for name, value in start_mlflow("sqlite").client.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    for artifact in policies:
        assert registry_here("register", str(write(artifact, tmp_path))).code == 0
    assert registry_here("promote", f"{NAME}@0.1.0", "--to", "staging", *FORCED).code == 0
    server = start_server("--model", f"{NAME}@staging", "--workers", "2", "--poll-s", "0.5")
    server.wait_ready()
    with SteadyLoad(server.url, Questions(policies), 4, PAUSE_S) as record:
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
