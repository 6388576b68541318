"""Shadows that spin, hang, eat memory or die: what is served goes on, bit for bit and ready, and they begin again."""

from __future__ import annotations

import re
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from following_support import metric, until
from shadow_support import Asking, process_of, shadow_of, wait_rows, wait_up
from tests_support import Server

from benchmarks.policies.bad_shadows import AT, eating, holding, spinning
from benchmarks.policies.two_policies import write
from carla_mlflow import Artifact, Engine

Start = Callable[..., Server]
pytestmark = [pytest.mark.xdist_group("shadow")]


@pytest.fixture(scope="session")
def served(champion: Artifact, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(champion, tmp_path_factory.mktemp("served"))


@pytest.fixture
def started(start_server: Start, served: Path, champions: Engine) -> Callable[..., tuple[Server, Asking]]:
    """Starts a server with a shadow that compares, and has compared ten rows."""

    def start(shadow: Path, *flags: str) -> tuple[Server, Asking]:
        server = start_server("--model", str(served), "--shadow", str(shadow), *flags)
        server.wait_ready()
        wait_up(server)
        asking = Asking(server, champions)
        asking.ask(10)
        wait_rows(server, 10)
        return server, asking

    return start


@pytest.fixture
def good(other: Artifact, tmp_path: Path) -> Path:
    return write(other, tmp_path)


def test_one_that_spins_in_its_policy_changes_no_answer(started, champion: Artifact, tmp_path: Path):
    server, asking = started(write(spinning(champion, "1.2.0"), tmp_path))
    ready = server.get("/readyz").body
    asking.ask(1, state=AT)
    busy = process_of(server)
    before = busy.cpu_times().user
    until(lambda: busy.cpu_times().user > before + 1.0, server)
    asking.ask(100)
    assert server.get("/readyz").body == ready
    assert shadow_of(server)["counts"]["rows"] == 10
    assert metric(server, "policy_actions_total", version="1.0.0") == 111
    assert server.stop() == 0  # nobody waits for it
    assert not busy.is_running()


def test_one_that_is_stopped_changes_no_answer_and_loses_no_row(started, good: Path):
    server, asking = started(good)
    ready, process = server.get("/readyz").body, process_of(server)
    process.send_signal(signal.SIGSTOP)
    asking.ask(100)
    assert server.get("/readyz").body == ready
    assert shadow_of(server)["counts"]["rows"] == 10
    process.send_signal(signal.SIGCONT)
    wait_rows(server, 110)
    assert shadow_of(server)["skipped"] == {}


def test_one_whose_policy_wants_more_memory_than_it_may_have_goes_on_without_it(
    started, champion: Artifact, tmp_path: Path
):
    server, asking = started(write(eating(champion, "1.2.0", 16_000), tmp_path), "--shadow-memory-mb", "1500")
    ready = server.get("/readyz").body
    asking.ask(1, state=AT)
    until(lambda: shadow_of(server)["skipped"] == {"unusable": 1}, server)
    asking.ask(20)
    wait_rows(server, 30)
    assert server.get("/readyz").body == ready
    assert shadow_of(server)["starts"] == 1


def test_one_that_holds_more_memory_than_it_may_is_ended_and_started_again(started, champion: Artifact, tmp_path: Path):
    shadow = write(holding(champion, "1.2.0", 1500), tmp_path)
    server, asking = started(shadow, "--shadow-memory-mb", "1500")
    ready = server.get("/readyz").body
    asking.ask(1, state=AT)
    until(lambda: shadow_of(server)["starts"] == 2, server)
    assert "more than --shadow-memory-mb (1,500 MB)" in server.log.read_text()
    wait_up(server)
    asking.ask(20)
    wait_rows(server, 30)
    assert shadow_of(server)["skipped"] == {"restart": 1}  # the row that made it so large is not tried again
    assert server.get("/readyz").body == ready


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV, signal.SIGABRT])
def test_one_that_dies_by_a_signal_is_started_again_with_longer_waits_and_every_row_is_accounted_for(
    started, good: Path, number: signal.Signals
):
    server, asking = started(good)
    ready = server.get("/readyz").body
    for start in (2, 3):
        process_of(server).send_signal(number)
        asking.ask(25)
        until(lambda start=start: shadow_of(server)["starts"] == start, server)
        assert server.get("/readyz").body == ready
        wait_up(server)
    asking.ask(40)

    def accounted() -> int:
        found = shadow_of(server)
        return found["counts"]["rows"] + sum(found["skipped"].values())

    until(lambda: accounted() == 100, server)
    assert set(shadow_of(server)["skipped"]) <= {"restart"}
    assert metric(server, "policy_shadow_rows_total", version="1.1.0") >= 50
    waits = re.findall(
        r"shadow's process ended; what is served goes on\. It is started again in (\S+) s", server.log.read_text()
    )
    assert waits in (["1.0", "2.0"], ["1.0", "0.5"], ["0.5", "1.0"], ["0.5", "0.5"])  # 0.5 after a minute of life


def test_while_it_does_not_run_the_server_says_so(started, good: Path):
    server, _ = started(good)
    process_of(server).kill()
    until(lambda: metric(server, "policy_shadow_up") == 0, server)
    assert shadow_of(server)["reason"] in ("its process ended; it is started again", "starting")
    assert shadow_of(server)["counts"]["rows"] == 10  # what it has found is known all the time
    wait_up(server)
