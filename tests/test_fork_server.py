"""A command that is forked is a process of its own, with all that its caller gives one."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from fork_server import BIN, forked_commands
from patience import PATIENCE_S

SAYS = """
import os, sys
print(os.path.basename(sys.argv[0]), *sys.argv[1:], os.getcwd(), os.environ["NAME"], sys.stdin.read(), __name__)
print("to stderr", file=sys.stderr)
sys.exit(3)
"""
WAITS = "import time\nprint('ready', flush=True)\ntime.sleep(60)"


@pytest.fixture
def environment(short_folder: Path) -> Iterator[dict[str, str]]:
    """Of a shell that finds the commands first."""
    given = {"PATH": f"{short_folder}:{BIN}:{os.environ['PATH']}", "NAME": "the server's"}
    with forked_commands(short_folder, ["python"], ["json"], given):
        yield given


def test_a_forked_command_has_its_callers_arguments_folder_environment_and_streams(
    environment: dict[str, str], tmp_path: Path
):
    (tmp_path / "benchmarks.py").write_text(SAYS)
    command = ["bash", "-c", "NAME=mine python -m benchmarks 'a b' <<<given"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    said = f"benchmarks.py a b {tmp_path} mine given\n __main__\n"
    assert (done.returncode, done.stdout, done.stderr) == (3, said, "to stderr\n")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_forked_command_and_is_what_its_caller_sees(
    environment: dict[str, str], tmp_path: Path, number: signal.Signals
):
    (tmp_path / "benchmarks.py").write_text(WAITS)
    command = ["bash", "-c", "exec python -m benchmarks"]
    with subprocess.Popen(
        command, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as waiting:
        assert waiting.stdout is not None
        assert waiting.stdout.readline() == b"ready\n"
        waiting.send_signal(number)
        assert waiting.wait(PATIENCE_S) == -number


def test_python_without_a_module_of_the_project_is_python(environment: dict[str, str], tmp_path: Path):
    command = ["bash", "-c", "python -c 'import os; print(os.getppid())'; echo $$"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True)
    parent, shell = done.stdout.split()
    assert parent == shell  # and not the server
