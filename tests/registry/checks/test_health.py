"""What carla-registry doctor looks at, one thing at a time."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

import carla_mlflow
from registry.checks import machine_health
from registry.checks.machine_health import TELEMETRY, cache_finding, python_finding, telemetry_finding
from registry.checks.registry_health import CLOCK_S, Server, server_findings


def test_a_cache_that_can_be_written_is_told_with_its_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("POLICY_CACHE_DIR", str(tmp_path / "new" / "cache"))
    found = cache_finding()
    assert (found.ok, found.found.startswith(f"{tmp_path}/new/cache: 0 bytes held, ")) == (True, True)
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "new" / "cache").mkdir(parents=True)
    (tmp_path / "new" / "cache" / "weights").write_bytes(bytes(2_000))
    assert "2.0 kB held" in cache_finding().found


def test_a_cache_that_can_not_be_written_says_which_setting_names_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "file").touch()
    monkeypatch.setenv("POLICY_CACHE_DIR", str(tmp_path / "file" / "cache"))
    found = cache_finding()
    assert (found.ok, "POLICY_CACHE_DIR" in found.todo) == (False, True)


def test_a_disk_that_is_nearly_full_is_a_problem(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("POLICY_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(machine_health, "FREE_BYTES", 2**70)
    found = cache_finding()
    assert (found.ok, "carla-registry gc" in found.todo) == (False, True)


def test_telemetry_is_off_in_every_program_of_ours_and_a_user_who_turned_it_on_is_told():
    off = {name: carla_mlflow._EARLY_ENVIRONMENT[name] for name in TELEMETRY}
    assert telemetry_finding(off).ok
    on = telemetry_finding({**off, "MLFLOW_DISABLE_TELEMETRY": "false"})
    assert (on.ok, on.todo) == (False, "unset MLFLOW_DISABLE_TELEMETRY: then it is off")


@pytest.mark.parametrize(("version", "ok"), [((3, 10), False), ((3, 11), True), ((3, 13), True), ((3, 15), False)])
def test_a_python_that_was_never_tried_is_said(version: tuple[int, int], ok: bool):
    assert python_finding(version).ok == ok


@pytest.mark.parametrize(
    ("ahead_s", "ok", "said"),
    [
        (0.0, True, "agree within"),
        (-CLOCK_S / 2, True, "agree within"),
        (90.0, False, "+90 s"),
        (None, True, "not say"),
    ],
)
def test_a_clock_that_differs_from_the_servers_is_a_problem(ahead_s: float | None, ok: bool, said: str):
    clock = list(server_findings(Server("", ahead_s), time.time()))[1]
    assert (clock.check, clock.ok, said in clock.found) == ("clock", ok, True)


def test_a_server_of_another_mlflow_is_a_problem_unless_only_its_patch_differs():
    import mlflow

    major, minor, _ = mlflow.__version__.split(".", 2)
    for version, ok in ((f"{major}.{minor}.99", True), (f"{int(major) - 1}.{minor}.0", False)):
        found = next(server_findings(Server(version, 0.0), time.time()))
        assert (found.check, found.ok, version in found.found) == ("versions", ok, True)
