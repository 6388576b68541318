"""Verifying and registering load a policy in a process of their own: one that crashes costs a line and exit code 1."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from following_support import hanging, out_of_parity, until_true
from patience import PATIENCE_S
from tests_support import run_command

from benchmarks.policies.bad_policies import crashing
from benchmarks.policies.two_policies import small_policy, write
from carla_mlflow import open_artifact
from carla_mlflow.errors import CrashError, ParityError
from carla_mlflow.own_process import values_of
from registry.checks.latency import measure_here
from registry.checks.verify import verify_apart


@pytest.fixture(scope="module")
def crasher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(crashing(small_policy("1.0.0", 1), "2.0.0"), tmp_path_factory.mktemp("crasher"))


@pytest.mark.parametrize("command", ["verify", "register"])
def test_a_policy_that_crashes_the_parser_is_refused_with_a_line(crasher: Path, mlflow_home: Path, command: str):
    done = run_command("carla-registry", command, str(crasher))
    assert done.code == 1
    assert done.err == "carla-registry: the process that loaded it was killed (SIGSEGV)\n"


def test_what_a_policy_is_refused_for_is_told_as_if_it_had_been_loaded_here(example: Path):
    with pytest.raises(CrashError, match=r"the process that loaded it ended \(exit code 1\)"):
        list(values_of("registry.no_such_module", []))
    found = list(verify_apart(example, None))
    assert found[0] == "artifact     racetrack-policy 0.1.0, format 1"


def test_the_error_of_a_policy_keeps_its_kind(tmp_path: Path):
    bad = write(out_of_parity(small_policy("1.0.0", 1), "3.0.0"), tmp_path)
    with pytest.raises(ParityError, match="the trained policy gave"):
        list(verify_apart(bad, None))


def test_a_command_that_is_killed_or_interrupted_leaves_no_process_that_loads(tmp_path: Path):
    endless = write(hanging(small_policy("1.0.0", 1), "3.0.0"), tmp_path)
    for number in (signal.SIGKILL, signal.SIGINT):
        command = [str(Path(sys.executable).parent / "carla-registry"), "verify", str(endless)]
        running = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=os.environ)
        until_true(lambda running=running: psutil.Process(running.pid).children())
        [child] = psutil.Process(running.pid).children()
        running.send_signal(number)
        running.wait(PATIENCE_S)
        until_true(lambda child=child: not child.is_running())


def test_a_version_that_crashes_where_it_is_promoted_is_refused_by_its_gate(crasher: Path):
    found = measure_here(lambda: open_artifact(crasher))
    assert "the process that loaded it was killed" in (found.problem or "")
    assert found.decision_ms is None
