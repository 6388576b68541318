"""The documentation's commands, in its order, by a new user: an empty HOME, no setting of ours anywhere."""

from __future__ import annotations

import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import httpcore
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fork_server import BIN, forked_commands
from patience import PATIENCE_S
from readme_commands import CODE, ELSEWHERE, documented_commands, pages
from tests_support import ROOT

from benchmarks.support.free_port import free_port

SHORTER = {
    "--total-timesteps 100000": "--total-timesteps 2000",
    "--total-timesteps 200000": "--total-timesteps 4000",
    "evaluate mine@0.1.0": "evaluate mine@0.1.0 --episodes 2 --duration 2",
    "evaluate mine@0.2.0": "evaluate mine@0.2.0 --episodes 2 --duration 2",
    "--episodes 3": "--episodes 1",
    "--episodes 5": "--episodes 1",
    "-e export": "-e export -P episodes=2",
    "-e evaluate": "-e evaluate -P episodes=2",
}
"""What takes minutes."""
PATIENCE = {"timeout": {"connect": 5.0, "read": 5.0}}
FORCED = "--force --reason 'no need to drive well here'"
BEFORE = {
    "carla-registry history": [f"carla-registry promote mine@0.1.0 --to production {FORCED}"],
    "carla-registry rollback": [f"carla-registry promote mine@0.2.0 --to production {FORCED}"],
    "carla-registry archive": [f"carla-registry promote mine@0.2.0 --to production {FORCED}"],
}
"""Prefix of a command → what the reader, whose policy drives, has done by then."""
REFUSED = ("carla-registry promote mine@", "mlflow run . --env-manager local -e promote")
"""What the gates refuse: a policy that has seen 2,000 steps does not drive."""
APPEARS = {
    "checkpoint",
    "policies",
    "mlflow.db",
    "mlruns",
    "mlartifacts",
    "drive.gif",
    "drives.parquet",
    "actions.parquet",
    "checkpoint-2",
    "c.pem",
    "k.pem",
    "card.schema.json",
}


IMPORTED = (
    "highway_env",
    "matplotlib.pyplot",
    "mlflow",
    "mlflow.store.tracking.sqlalchemy_store",
    "onnxscript",
    "skops.io",
    "stable_baselines3",
    "torch.onnx._internal.exporter._core",
)
"""By one process for all commands: by each of them it would take most of the walk's time."""


class NewUser:
    """Somebody who has just cloned the project."""

    def __init__(self, folder: Path, commands: Path) -> None:
        """Clones it.

        Args:
            folder: for the home and the checkout.
            commands: a folder of commands that come before the installed ones.
        """
        self.home, self.checkout = folder / "home", folder / "checkout"
        self.home.mkdir()
        left_out = shutil.ignore_patterns(".git", ".venv", ".demo", ".*_cache", "__pycache__", "site", *APPEARS)
        shutil.copytree(ROOT, self.checkout, ignore=left_out)
        # One thread a process, as all tests: two that wait for each other on two busy cores spin most of their time.
        self.environment = {"HOME": str(self.home), "PATH": f"{commands}:{BIN}:/usr/bin:/bin"}
        self.environment |= {"OMP_NUM_THREADS": "1"}
        self.port = free_port()
        self.server: subprocess.Popen[bytes] | None = None

    def types(self, command: str) -> subprocess.CompletedProcess[str]:
        for before, after in {**SHORTER, "localhost:8080": f"localhost:{self.port}"}.items():
            command = command.replace(before, after)
        print(f"{time.monotonic():.0f}", command, flush=True)
        shell = ["bash", "-c", command]
        return subprocess.run(shell, cwd=self.checkout, env=self.environment, capture_output=True, text=True)

    def serves(self, command: str) -> None:
        """Starts a server, the only one, and waits until it is ready."""
        assert self.server is None
        shell = ["bash", "-c", f"exec {command} --port {self.port}"]
        print(f"{time.monotonic():.0f}", command, flush=True)
        log = self.home.parent / "log"
        with open(log, "wb") as output:
            server = subprocess.Popen(shell, cwd=self.checkout, env=self.environment, stdout=output, stderr=output)
        self.server = server
        ends = time.monotonic() + PATIENCE_S
        while time.monotonic() < ends and server.poll() is None:
            try:
                if httpcore.request("GET", f"http://localhost:{self.port}/readyz", extensions=PATIENCE).status == 200:
                    return
            except (httpcore.NetworkError, httpcore.ProtocolError, httpcore.TimeoutException):
                time.sleep(0.1)
        raise AssertionError(f"{command}: not ready: {log.read_text()}")


@pytest.fixture
def new_user(tmp_path: Path, short_folder: Path) -> Iterator[NewUser]:
    user = NewUser(tmp_path, short_folder)
    # A server is none of these: it imports neither, and its master and workers are to have each its own process.
    with forked_commands(
        short_folder, ["python", "carla-export", "carla-registry", "mlflow"], IMPORTED, user.environment
    ):
        yield user
        if user.server is not None:
            user.server.terminate()
            assert user.server.wait(PATIENCE_S) == 0


def write_drives(path: Path) -> None:
    """Ten seconds that a car has logged."""
    rng = np.random.default_rng(0)
    columns = {"drive": ["a"] * 100, "time": np.arange(100) / 10, "speed": rng.uniform(0, 9, 100)}
    columns |= {"steering": rng.uniform(-1, 1, 100), "sensors": rng.uniform(0, 1, (100, 12)).tolist()}
    pq.write_table(pa.table(columns), path)


@pytest.mark.slow
@pytest.mark.timeout(3000)
def test_every_command_does_what_the_pages_say_with_everything_at_its_default(new_user: NewUser):
    write_drives(new_user.checkout / "drives.parquet")
    there = {path.name for path in new_user.checkout.iterdir()}
    for command in documented_commands():
        if any(command.startswith(prefix) for prefix in ELSEWHERE):
            continue
        for prefix, commands in BEFORE.items():
            for own in commands if command.startswith(prefix) else ():
                done = new_user.types(own)
                assert done.returncode == 0, (own, done.stderr)
        if "carla-serve" in command:
            new_user.serves(command)
            continue
        done = new_user.types(command)
        assert done.returncode == int(command.startswith(REFUSED)), (command, done.stdout, done.stderr)
        assert "Traceback" not in done.stderr or command.startswith("mlflow run"), (command, done.stderr)
    assert {path.name for path in new_user.checkout.iterdir()} - there <= APPEARS | {"__pycache__", ".pytest_cache"}
    cache = new_user.home / ".cache" / "carla-mlflow"
    assert {path.name for path in cache.iterdir()} == {"artifacts", "attempts", "references"}


def test_no_command_is_said_to_be_run_elsewhere_that_is_not_there_any_more():
    commands = documented_commands()
    assert {prefix for prefix in ELSEWHERE if not any(command.startswith(prefix) for command in commands)} == set()
    assert {
        where for where in ELSEWHERE.values() if where.startswith("tests/") and not (ROOT / where).exists()
    } == set()


def test_every_page_with_a_command_is_walked():
    walked = {ROOT / page for page in pages()}
    for page in sorted((ROOT / "docs").rglob("*.md")):
        if page.parent.name not in {"adr", "explanation"}:
            shown = re.findall(r"^    (?:carla-|python -m |mlflow |curl )", CODE.sub("", page.read_text()), re.M)
            assert not shown or page in walked, page
