"""How the suite itself runs."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest
from patience import PATIENCE_S

TESTS = Path(__file__).parent
PLUGIN = """
from told_at_once import ToldAtOnce
def pytest_configure(config):
    config.pluginmanager.register(ToldAtOnce(config))
"""
TWO = """
import time
def test_fails():
    assert 1 == 2
def test_takes_long():
    print("begun", flush=True)
    time.sleep(3600)
"""


@pytest.mark.xdist_group("grouping")
def test_tests_of_one_group_run_in_one_worker(request: pytest.FixtureRequest):
    # With pytest 9.2, pytest-xdist 3.8 ignores groups without a word; every worker then makes what a group shares.
    assert request.node.nodeid.endswith("@grouping") or not getattr(request.config.option, "loadgroup", False)


def test_a_run_that_is_ended_has_said_what_failed_and_says_what_was_under_way(tmp_path: Path):
    (tmp_path / "conftest.py").write_text(PLUGIN)
    (tmp_path / "test_two.py").write_text(TWO)
    command = [sys.executable, "-m", "pytest", "-s", "-p", "no:cacheprovider", "-c", "/dev/null", str(tmp_path)]
    environment = {"PYTHONPATH": str(TESTS), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    run = subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, text=True)
    assert run.stdout is not None
    before = []
    for line in run.stdout:
        before.append(line.strip())
        if "begun" in line:
            break
    assert [line for line in before if line.startswith("FAILED")] == ["FAILED test_two.py::test_fails (call, 0 s)"]
    run.send_signal(signal.SIGINT)
    after, _ = run.communicate(timeout=PATIENCE_S)
    assert run.returncode == 2
    assert ": test_two.py::test_takes_long" in after
