"""Both kinds of worker beside a real `mlflow models serve`: whatever that answers, ours answers alike."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import httpcore
import msgspec
import numpy as np
import pytest
import torch
from conftest import servers
from patience import PATIENCE_S
from scoring_bodies import JSON, bodies, columns, rows_of
from tests_support import EXAMPLE, Server, registry_here
from torch import nn

from benchmarks.policies.networks import FULL_BRAKE, UNIT, small_view
from benchmarks.policies.two_policies import write
from benchmarks.support.free_port import free_port
from carla_mlflow import Engine, open_artifact
from carla_mlflow.contract.action_card import ActionCard
from carla_mlflow.contract.control_kinds import CONTROL_NAMES
from carla_mlflow.contract.field_card import FieldCard
from training_export.export.export import export_policy
from training_export.sources.draft import CardDraft
from training_export.sources.from_module import from_network
from training_export.sources.preprocessed import Preprocessed

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("beside-mlflow")]


class Gap(nn.Module):
    """Two numbers, each a field of its own → mean and standard deviation, each (B, 2)."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(2, 8), nn.Tanh(), nn.Linear(8, 4))

    def forward(self, speed: torch.Tensor, gap: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """(B,) each."""
        mean, log_std = torch.chunk(self.layers(torch.stack([speed, gap], dim=1)), 2, dim=1)
        return mean, torch.exp(log_std)


def gap_policy(folder: Path) -> Path:
    torch.manual_seed(0)
    section = {"speed": FieldCard("float32", [], 0.0, 40.0), "gap": FieldCard("float32", [], -100.0, 100.0)}
    raw = {"acceleration": UNIT, "steer": UNIT}
    action = ActionCard("squashed_gaussian", raw, "acceleration_steer", 10.0, FULL_BRAKE)
    trained = from_network("gap", Gap().eval(), CardDraft(), section, action, Preprocessed())
    return write(export_policy(trained, "gap", "1.0.0", "").artifact, folder)


def view_policy(folder: Path) -> Path:
    return write(export_policy(small_view(), "view", "1.0.0", "").artifact, folder)


POLICIES = {"arrays": lambda _: EXAMPLE, "scalars": gap_policy, "images": view_policy}


class Pair(NamedTuple):
    """MLflow's server, ours, and the policy that both serve."""

    theirs: str
    ours: Server
    engine: Engine
    kind: str


@pytest.fixture(scope="module", params=POLICIES)
def served(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, tables: Path
) -> Iterator[tuple[str, Path, str]]:
    """`mlflow models serve` of a registered policy, as the README starts it; the policy's folder; its kind."""
    home = tmp_path_factory.mktemp("home")
    shutil.copy(tables, home)
    folder = POLICIES[request.param](home / "policy")
    env = {"MLFLOW_TRACKING_URI": f"sqlite:///{home}/mlflow.db", "XDG_CACHE_HOME": str(home / "cache")}
    for command in (
        ["register", str(folder), "--name", "policy"],
        [
            "promote",
            f"policy@{open_artifact(folder).card.version}",
            "--to",
            "production",
            "--force",
            "--reason",
            "a test",
        ],
    ):
        done = registry_here(*command, env=env)
        assert done.code == 0, done.err
    with mlflow_serving(home, env) as url:
        yield url, folder, request.param


@pytest.fixture(scope="module", params=["loop", "gthread"])
def pair(
    request: pytest.FixtureRequest, served: tuple[str, Path, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Pair]:
    url, folder, kind = served
    with servers(tmp_path_factory) as start:
        ours = start("--model", str(folder), "--worker-class", request.param)
        ours.wait_ready()
        yield Pair(url, ours, Engine.open(folder, device="cpu"), kind)


@contextlib.contextmanager
def mlflow_serving(home: Path, env: dict[str, str]) -> Iterator[str]:
    """The URL of MLflow's own server of what `policy` has in production."""
    port = free_port()
    command = [str(Path(sys.executable).parent / "mlflow"), "models", "serve", "-m", "models:/policy@production"]
    command += ["--env-manager", "local", "-p", str(port)]
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"  # where it looks for uvicorn
    safe = {"MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
    log = home / "log"
    with open(log, "wb") as output:
        process = subprocess.Popen(
            command,
            env={**os.environ, **env, **safe, "PATH": path},
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    url, ends = f"http://127.0.0.1:{port}", time.monotonic() + PATIENCE_S
    while time.monotonic() < ends:
        try:
            if httpcore.request("GET", url + "/ping").status == 200:
                break
        except httpcore.NetworkError:
            assert process.poll() is None, log.read_text()
            time.sleep(0.2)
    else:
        raise AssertionError(log.read_text())
    try:
        yield url
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(PATIENCE_S)


def test_whatever_mlflow_answers_ours_answers_alike(pair: Pair):
    answered = 0
    for name, body, media_type in bodies(rows_of(pair.engine, 4)):
        theirs, ours = ask(pair.theirs, body, media_type), pair.ours.post("/invocations", body, media_type)
        if theirs.status == 200:
            assert (ours.status, ours.json) == (200, msgspec.json.decode(theirs.content)), name
            answered += 1
        else:
            assert theirs.status < 500, (name, theirs.content)
    assert answered >= {"arrays": 16, "scalars": 20, "images": 6}[pair.kind]


def test_all_golden_rows_get_the_engines_bits_from_both(pair: Pair):
    rows = rows_of(pair.engine, len(next(iter(pair.engine.golden.observations.values()))))
    wanted = pair.engine.act(pair.engine.golden.observations).control.tolist()
    body = msgspec.json.encode({"inputs": columns(rows) if pair.kind == "images" else rows})
    for answer in (ask(pair.theirs, body, JSON).content, pair.ours.post("/invocations", body).body):
        actions = msgspec.json.decode(answer)["predictions"]
        assert [[np.float32(action[name]) for name in CONTROL_NAMES] for action in actions] == wanted


def test_probes_answer_as_mlflows_do(pair: Pair):
    for path in ("/ping", "/health", "/version"):
        theirs, ours = httpcore.request("GET", pair.theirs + path), pair.ours.get(path)
        assert (ours.status, ours.body) == (theirs.status, theirs.content), path


def ask(url: str, body: bytes, media_type: str) -> httpcore.Response:
    headers = {"Host": "localhost", "Content-Type": media_type}
    return httpcore.request("POST", url + "/invocations", headers=headers, content=body)
