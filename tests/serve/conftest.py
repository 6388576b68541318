"""A registry over HTTP, shared by the tests of following."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import mlflow
import pytest
from following_support import Registry
from remembering_export import exported_lstm
from tests_support import own_cache

from benchmarks.policies.bad_policies import publish
from benchmarks.policies.two_policies import Questions, small_policy
from benchmarks.support.mlflow_server import MlflowServer
from carla_mlflow import Artifact


@pytest.fixture(scope="session")
def mlflow_server(tmp_path_factory: pytest.TempPathFactory, tables: Path) -> Iterator[MlflowServer]:
    """`mlflow server` on SQLite."""
    server = MlflowServer(Path(shutil.copy(tables, tmp_path_factory.mktemp("mlflow-server"))).parent)
    yield server
    server.kill()


@pytest.fixture(scope="session")
def filled(mlflow_server: MlflowServer) -> Registry:
    """1.0.0 and 1.1.0 as MLflow's versions 1 and 2."""
    artifacts = [small_policy("1.0.0", 1), small_policy("1.1.0", 2)]
    before = dict(os.environ)
    os.environ["MLFLOW_TRACKING_URI"] = mlflow_server.uri
    mlflow.set_tracking_uri(None)
    for artifact in artifacts:
        publish(artifact, mlflow_server.home)
    os.environ.clear()
    os.environ.update(before)
    return Registry(mlflow_server, artifacts, Questions(artifacts))


@pytest.fixture(scope="session")
def remembering() -> Artifact:
    """A policy with memory: an LSTM."""
    return exported_lstm("1.0.0").artifact


@pytest.fixture
def registry(filled: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Registry]:
    """The registry as this test's processes find it; the cache and the run folders are the test's own."""
    (tmp_path / "tmp").mkdir()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", filled.server.uri)
    own_cache(monkeypatch, tmp_path)
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_REGISTRY_URI", raising=False)
    os.environ.pop("MLFLOW_EXPERIMENT_ID", None)
    monkeypatch.setattr(mlflow.tracking.fluent, "_active_experiment_id", None)  # of another test's store
    yield filled
    filled.server.revive()  # where a test failed before it did so itself, the next ones find it
    os.environ.pop("MLFLOW_EXPERIMENT_ID", None)  # MLflow sets it by itself in this process


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A chain and its key for this machine's own names, both files of PEM."""
    folder = tmp_path_factory.mktemp("tls")
    chain, key = folder / "chain.pem", folder / "key.pem"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"]
    command += ["-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1", "-keyout", str(key), "-out", str(chain)]
    subprocess.run(command, check=True, capture_output=True)
    return chain, key
