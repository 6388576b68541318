"""carla-registry doctor, as a user types it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from tests_support import registry_here

from benchmarks.support.free_port import free_port
from benchmarks.support.mlflow_server import MlflowServer
from registry.checks import registry_health
from registry.checks.registry_health import registry_findings

FINDINGS = """
from registry.checks.registry_health import registry_findings
for finding in registry_findings():
    print(finding.check, finding.ok)
"""
NAMES = ["python", "cache", "onnx", "torchscript", "openvino", "telemetry", "registry"]


def test_a_machine_that_is_well_gets_a_line_for_each_thing_and_changes_nothing(new_home: Path, example: Path):
    done = registry_here("doctor", str(example))
    assert done.code == 0, done.out
    lines = done.out.splitlines()
    assert [line.split()[:2] for line in lines[:-1]] == [["ok", name] for name in [*NAMES, "artifact"]]
    assert lines[-1] == "all is well"
    assert not (new_home / "mlflow.db").exists()


def test_an_artifact_that_was_changed_is_a_problem_with_what_to_do(new_home: Path, changed_example: Path):
    done = registry_here("doctor", str(changed_example), "--json")
    assert done.code == 1
    told = json.loads(done.out)
    assert told["ok"] is False
    [problem] = [check for check in told["checks"] if not check["ok"]]
    assert problem["check"] == "artifact"
    assert f"carla-registry verify {changed_example}" in problem["todo"]


@pytest.fixture
def changed_example(example: Path, tmp_path: Path) -> Path:
    import shutil

    folder = tmp_path / "changed"
    shutil.copytree(example, folder)
    golden = next(folder.glob("*.npz"))
    golden.write_bytes(golden.read_bytes() + b"x")
    return folder


def test_a_registry_that_does_not_answer_ends_with_the_code_for_that(
    mlflow_home: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("registry.checks.machine_health.machine_findings", lambda: iter(()))
    uri = f"http://127.0.0.1:{free_port()}"
    done = registry_here("doctor", env={"MLFLOW_TRACKING_URI": uri, "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0"})
    assert (done.code, done.out.splitlines()[-1]) == (3, "1 of 1 have a problem")
    assert done.out.startswith(f"problem  registry     {uri}: no answer")
    assert registry_health.SET_IT in done.out


def test_a_registrys_file_that_can_be_written_is_told(mlflow_home: Path, example: Path):
    assert registry_here("register", str(example)).code == 0
    registry, permissions = registry_findings()
    assert (registry.ok, "1 policy, read in" in registry.found) == (True, True)
    assert (permissions.ok, permissions.found.endswith("can be read and written")) == (True, True)


def test_a_registrys_file_that_can_not_be_written_is_a_problem(mlflow_home: Path, example: Path):
    assert registry_here("register", str(example)).code == 0
    (mlflow_home / "mlflow.db").chmod(0o400)
    # Root may write everywhere, unless it gives that right up.
    without_right = ["setpriv", "--bounding-set", "-dac_override"] if os.geteuid() == 0 else []
    done = subprocess.run([*without_right, sys.executable, "-c", FINDINGS], capture_output=True, text=True)
    assert done.stdout.split() == ["registry", "True", "permissions", "False"], done.stderr


@pytest.mark.slow
def test_a_server_is_asked_for_its_version_and_its_time(
    start_mlflow: Callable[..., MlflowServer], mlflow_home: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("registry.checks.machine_health.machine_findings", lambda: iter(()))
    done = registry_here("doctor", "--json", env=start_mlflow("sqlite").client)
    assert done.code == 0, done.out
    told = {check["check"]: check for check in json.loads(done.out)["checks"]}
    assert list(told) == ["registry", "versions", "clock", "permissions"]
    assert "on the server" in told["versions"]["found"]
    assert "agree within" in told["clock"]["found"]
