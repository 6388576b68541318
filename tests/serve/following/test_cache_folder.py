"""Where fetched artifacts are kept: one default for every command, and what happens where nothing can be kept."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from following_support import until
from registered_once import copy_registry, made_once
from registry_policies import changed, enter, to_stage
from tests_support import EXAMPLE, Server, run_command

from benchmarks.failures.settings import OWN_DISK
from carla_mlflow.errors import CacheError
from registry.store.cache import default_cache
from registry.store.store import Store

pytestmark = pytest.mark.filterwarnings("ignore")  # MLflow's own
Start = Callable[..., Server]
PRODUCTION = "mine@production"


@pytest.fixture
def registered(mlflow_home: Path, tmp_path: Path) -> Path:
    """0.1.0 in production; nothing in the cache. The registry's folder, in which the test is."""

    def fill(_: Path) -> None:
        enter(Store(), str(EXAMPLE), "mine")
        to_stage(Store(), "mine@0.1.0", "production")

    made = made_once(tmp_path.parent / "registered" / "mine-in-production", mlflow_home, fill)
    copy_registry(made, mlflow_home, tmp_path / "cache")
    shutil.rmtree(default_cache())
    return mlflow_home


def warnings(server: Server) -> list[str]:
    return list(server.get("/readyz").json["warnings"])


def test_what_is_fetched_lies_in_the_users_cache_and_nothing_where_the_server_is_started(
    start_server: Start, registered: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    (tmp_path / "started-here").mkdir()
    monkeypatch.chdir(tmp_path / "started-here")
    server = start_server("--model", PRODUCTION)
    server.wait_ready()
    assert server.stop() == 0
    assert os.listdir() == []
    assert default_cache() == tmp_path / "cache" / "carla-mlflow"
    assert {path.name: len(list(path.iterdir())) for path in default_cache().iterdir()} == {
        "artifacts": 1,
        "attempts": 1,
        "references": 1,
    }
    (registered / "mlflow.db").rename(tmp_path / "away")
    (registered / "mlflow.db").mkdir()
    again = start_server("--model", PRODUCTION)  # begins with what was served last
    again.wait_ready()
    assert ["does not answer" in warning for warning in warnings(again)] == [True]


def test_a_cache_that_can_not_be_written_costs_a_warning_and_a_fetch_at_each_start(
    start_server: Start, registered: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    (tmp_path / "tmp").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
    monkeypatch.setenv("XDG_CACHE_HOME", "/dev/null")  # no folder can be made below it, by root neither
    server = start_server("--model", PRODUCTION, "--poll-s", "0.2")
    server.wait_ready()
    text = f"{PRODUCTION}: the cache can't be written; kept in a temporary folder until this server ends"
    assert warnings(server) == [text]
    assert "/dev/null/carla-mlflow: the cache can't be written (Not a directory)" in server.log.read_text()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "other"))
    enter(Store(), changed(tmp_path, "0.2.0", description="second"), "mine")
    to_stage(Store(), "mine@0.2.0", "production")
    until(lambda: server.get("/metadata").json["version"] == "0.2.0", server)
    assert warnings(server) == [text]
    assert server.stop() == 0
    assert list((tmp_path / "tmp").glob("carla-serve-*")) == []


def test_a_full_cache_is_called_full(registered: Path, tmp_path: Path):
    if subprocess.run(["unshare", "--mount", "true"], stderr=subprocess.DEVNULL).returncode:
        pytest.skip("mounting a small disk is not allowed here")
    default_cache().mkdir(parents=True)
    command = [*OWN_DISK, "20480", str(default_cache()), f"{Path(sys.executable).parent}/carla-registry"]
    done = subprocess.run([*command, "verify", PRODUCTION], capture_output=True, text=True)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1), done.stderr
    assert f"{default_cache()}: the cache is full (No space left on device); set POLICY_CACHE_DIR" in done.stderr


def test_a_command_whose_cache_can_not_be_written_says_what_to_set(registered: Path):
    done = run_command("carla-registry", "verify", PRODUCTION, env={"POLICY_CACHE_DIR": "/dev/null/cache"})
    assert (done.code, done.err.count("\n")) == (1, 1), done.err
    assert "/dev/null/cache: the cache can't be written (Not a directory); set POLICY_CACHE_DIR" in done.err


@pytest.mark.parametrize("relative", ["", "cache"])
def test_a_variable_that_names_no_folder_is_as_if_it_was_not_set(monkeypatch: pytest.MonkeyPatch, relative: str):
    monkeypatch.setenv("POLICY_CACHE_DIR", "")
    monkeypatch.setenv("XDG_CACHE_HOME", relative)
    monkeypatch.setenv("HOME", "/somebody")
    assert default_cache() == Path("/somebody/.cache/carla-mlflow")


def test_a_user_without_a_home_is_told_to_name_a_cache(monkeypatch: pytest.MonkeyPatch):
    for name in ("POLICY_CACHE_DIR", "XDG_CACHE_HOME", "HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(os, "getuid", lambda: 987654)  # whom nobody has entered
    with pytest.raises(CacheError, match="no home folder; set POLICY_CACHE_DIR"):
        default_cache()
