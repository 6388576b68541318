"""A registry that is killed, stopped or lies: exit code 3 in time, one line, and all is well when it is back."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from lying_server import answering
from patience import PATIENCE_S
from real_postgres import running_postgres
from registry_policies import enter
from tests_support import Finished, registry_here, run_command

from benchmarks.support.mlflow_server import MlflowServer
from carla_mlflow.errors import UnreachableError
from registry.store.store import Store

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]  # MLflow's own warnings
NAME = "racetrack-policy"
LOGIN_PAGE = b"<!doctype html>\n<html><body>\n<form action=/login>Sign in</form>\n</body></html>\n"


ONCE = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0"}
BRIEFLY = {**ONCE, "MLFLOW_HTTP_REQUEST_TIMEOUT": "1"}
"""As a user may set it: where nobody answers, MLflow's client is asked three times for five seconds otherwise."""


def registry_command(*arguments: str, uri: str, **settings: str) -> Finished:
    """In this process, with these settings."""
    return registry_here(*arguments, env={"MLFLOW_TRACKING_URI": uri, **settings})


def check_unreachable(done: Finished, uri: str) -> None:
    assert done.code == 3, done.err
    [line] = done.err.strip().splitlines()
    assert f"{uri}: no answer (tried for" in line


@pytest.fixture(scope="module")
def server(start_mlflow: Callable[..., MlflowServer]) -> Iterator[MlflowServer]:
    running = start_mlflow("sqlite")
    yield running
    running.kill()


@pytest.fixture
def stopped(server: MlflowServer) -> Iterator[MlflowServer]:
    """The kernel still takes connections for it, and nobody answers."""
    server.signal(signal.SIGSTOP)
    yield server
    server.signal(signal.SIGCONT)


def test_a_stopped_registry_is_unreachable_without_any_setting(stopped: MlflowServer, mlflow_home: Path):
    done = run_command("carla-registry", "list", env={"MLFLOW_TRACKING_URI": stopped.uri})
    check_unreachable(done, stopped.uri)


@pytest.mark.parametrize("command", [["resolve", f"{NAME}@production"], ["register", "EXAMPLE"]])
def test_a_stopped_registry_is_unreachable(stopped: MlflowServer, mlflow_home: Path, example: Path, command: list[str]):
    command = [str(example) if word == "EXAMPLE" else word for word in command]
    check_unreachable(registry_command(*command, uri=stopped.uri, **BRIEFLY), stopped.uri)


def test_a_registry_that_was_stopped_answers_when_it_goes_on(server: MlflowServer, mlflow_home: Path):
    server.signal(signal.SIGSTOP)
    server.signal(signal.SIGCONT)
    assert registry_command("list", uri=server.uri).code == 0


def test_a_store_asks_no_longer_than_its_deadline(server: MlflowServer, mlflow_home: Path, set_uri: Callable):
    set_uri(server.uri)
    store = Store(deadline_s=1.0)
    server.signal(signal.SIGSTOP)
    try:
        with pytest.raises(UnreachableError, match=r"no answer \(tried for [1-9] s\)"):
            store.names()
    finally:
        server.signal(signal.SIGCONT)


def test_a_registry_that_stops_before_a_download_does_not_hold_it_for_ever(
    server: MlflowServer, mlflow_home: Path, example: Path, tmp_path: Path, set_uri: Callable, monkeypatch
):
    set_uri(server.uri)
    store = Store()
    version, _ = enter(store, str(example))
    for name, value in BRIEFLY.items():
        monkeypatch.setenv(name, value)
    server.signal(signal.SIGSTOP)
    try:
        with pytest.raises(UnreachableError):  # at all, before this test's own limit
            store.fetch(version, tmp_path / "fetched")
    finally:
        server.signal(signal.SIGCONT)
    assert not (tmp_path / "fetched").exists()
    assert store.fetch(version, tmp_path / "fetched").is_dir()


def test_a_killed_registry_is_unreachable_and_knows_everything_when_it_is_back(
    server: MlflowServer, mlflow_home: Path, example: Path
):
    assert registry_command("register", str(example), uri=server.uri).code == 0
    server.kill()
    try:
        check_unreachable(registry_command("resolve", f"{NAME}@0.1.0", uri=server.uri, **ONCE), server.uri)
    finally:
        server.start()
    assert registry_command("resolve", f"{NAME}@0.1.0", uri=server.uri).code == 0


@pytest.mark.postgres
@pytest.mark.xdist_group("postgres")
def test_a_registry_whose_postgres_hangs_or_is_gone_is_unreachable(mlflow_home: Path):
    with running_postgres() as cluster:
        server = MlflowServer(mlflow_home, cluster.new_database())
        try:
            assert registry_command("list", uri=server.uri).code == 0
            cluster.signal(signal.SIGSTOP)
            try:
                check_unreachable(registry_command("list", uri=server.uri, **BRIEFLY), server.uri)
            finally:
                cluster.signal(signal.SIGCONT)
            assert registry_command("list", uri=server.uri).code == 0
            cluster.process.send_signal(signal.SIGQUIT)
            cluster.process.wait(PATIENCE_S)
            check_unreachable(registry_command("list", uri=server.uri, **ONCE), server.uri)
        finally:
            server.kill()


@pytest.mark.parametrize(
    ("status", "body"),  # a JSON object with 4xx is MLflow's own no, a login page or a proxy's is not
    [
        (500, LOGIN_PAGE),
        (500, b'{"error_code": "INTERNAL_ERROR", "message": "database is locked"}'),
        (502, b""),
        (503, LOGIN_PAGE),
        (200, LOGIN_PAGE),
        (200, b"[]"),
        (404, LOGIN_PAGE),
    ],
    ids=["500 html", "500 json", "502 empty", "503 html", "200 html", "200 list", "404 html"],
)
@pytest.mark.parametrize("command", [["list"], ["resolve", f"{NAME}@production"]], ids=lambda words: words[0])
def test_what_is_no_registrys_answer_is_no_answer(mlflow_home: Path, status: int, body: bytes, command: list[str]):
    with answering(status, body) as uri:
        check_unreachable(registry_command(*command, uri=uri, **ONCE), uri)


@pytest.fixture
def set_uri(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Makes a server the registry of this process."""

    def use(uri: str) -> None:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
        for name, value in {"MAX_RETRIES": "2", "TIMEOUT": "5"}.items():  # as every command of ours does
            monkeypatch.setenv(f"MLFLOW_HTTP_REQUEST_{name}", value)

    return use
