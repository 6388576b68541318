"""A server that follows the registry: what is promoted drives in every worker, what may not drive never does."""

from __future__ import annotations

import itertools
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import httpcore
import mlflow
import msgspec
import numpy as np
import psutil
import pytest
from following_support import (
    Registry,
    again,
    follower,
    hanging,
    metric,
    of_other_contract,
    out_of_parity,
    served,
    until,
    workers,
)
from patience import PATIENCE_S
from registry_proxy import RegistryProxy
from tests_support import Server, registry_here

from benchmarks.failures.dripping import DrippingRegistry
from benchmarks.policies.bad_policies import crashing, publish
from benchmarks.policies.two_policies import NAME, Questions
from benchmarks.support.steady_load import SteadyLoad
from carla_mlflow import Artifact
from registry.store.cache import default_cache
from serve.following.attempts import Attempts
from serve.following.last_served import remember
from serve.run_folder import Status, list_refused, worker_states
from serve.settings import Settings

pytestmark = [pytest.mark.xdist_group("following"), pytest.mark.filterwarnings("ignore")]  # MLflow's own warnings

Start = Callable[..., Server]
PAUSE_S = 0.02
_aliases = (f"alias-{number}" for number in itertools.count())


@pytest.fixture
def alias(registry: Registry) -> str:
    """An alias of this test's own, held by 1.0.0."""
    name = next(_aliases)
    registry.point(name, "1")
    return name


def start(start_server: Start, alias: str, *flags: str) -> Server:
    server = start_server("--model", f"{NAME}@{alias}", "--workers", "2", "--poll-s", "0.5", *flags)
    server.wait_ready()
    until(all_serve, server)
    return server


def start_impatient(start_server: Start, alias: str, timeout_s: int = 5) -> Server:
    """Its follower asks the registry once and not three times, so that an outage is seen at once."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
        patched.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", str(timeout_s))
        return start(start_server, alias)


def all_serve() -> bool:
    """Whether both workers of the server that was started last have something to serve."""
    folders = sorted(Path(os.environ["TMPDIR"]).glob("carla-serve-*"), key=lambda folder: folder.stat().st_mtime)
    return sum(bool(state.served) for state in worker_states(folders[-1])) == 2


def warnings(server: Server) -> list[str]:
    answer = server.get("/readyz")
    assert answer.status == 200, answer.body
    return answer.json["warnings"]


def test_promotions_under_load_reach_every_worker_and_no_request_fails(start_server, registry, alias):
    server = start(start_server, alias)
    with SteadyLoad(server.url, registry.questions, 8, PAUSE_S) as record:
        for move in range(6):
            number, version = ("2", "1.1.0") if move % 2 == 0 else ("1", "1.0.0")
            registry.point(alias, number)
            until(lambda version=version: served(server) == {version}, server)
            swapped = time.monotonic()
            time.sleep(0.3)
            assert {by for sent, _, by in record.answers if sent > swapped} == {version}
        until(lambda: len(record.answers) > 300, server)
    assert record.failed == []
    assert record.wrong == []
    assert metric(server, "policy_swaps_total") == 12
    until(lambda: warnings(server) == [], server)
    until(lambda: server.get("/metadata").json["version"] == "1.0.0", server)


def corrupted(registry: Registry, artifact: Artifact, version: str) -> str:
    bad = again(artifact, version)
    number = registry.publish(bad)
    for folder in registry.stored(bad):
        graph = folder / "model.onnx"
        graph.write_bytes(graph.read_bytes()[:-100] + bytes(100))
    return number


BAD = {
    "integrity": ("9.0.1", corrupted, "model.onnx"),
    "parity": ("9.0.2", lambda r, a, v: r.publish(out_of_parity(a, v)), "the trained policy gave"),
    "timeout": (
        "9.0.3",
        lambda r, a, v: r.publish(hanging(a, v)),
        "loading and warming up took longer than --load-timeout-s (3 s)",
    ),
    "crash": ("9.0.5", lambda r, a, v: r.publish(crashing(a, v)), "the process that loaded it was killed (SIGSEGV)"),
    "contract": ("9.0.4", lambda r, a, v: r.publish(of_other_contract(a, v)), "another contract"),
}


@pytest.mark.parametrize("kind", BAD)
def test_what_may_not_drive_never_does_and_the_reason_is_told(start_server, registry, alias, kind, tmp_path):
    version, publish, reason = BAD[kind]
    server = start(start_server, alias, "--load-timeout-s", "3")
    before = workers(server)
    number = publish(registry, registry.artifacts[1], version)
    with SteadyLoad(server.url, registry.questions, 4, PAUSE_S) as record:
        registry.point(alias, number)
        until(lambda: len(list_refused(run_folder(tmp_path))) == 1, server)
        until(lambda: len(warnings(server)) == 1, server)
        time.sleep(2)
        [refused] = list_refused(run_folder(tmp_path))
        assert (refused.version, refused.kind) == (version, kind)
        assert reason in refused.reason
        assert warnings(server) == [f"{version} is refused ({kind}): {refused.reason}"]
        until(lambda: server.get("/metadata").json["refused"], server)  # by the other worker too
        [told] = server.get("/metadata").json["refused"]
        assert (told["version"], told["digest"], told["reason"]) == (version, refused.digest, refused.reason)
        assert 1 <= metric(server, "policy_refusals_total", reason=kind) <= 6
        assert str(tmp_path) not in refused.reason
        done = registry_here("watch", NAME, "--once", "--server", server.url)
        assert done.code == 0, done.err
        assert mlflow.MlflowClient().get_model_version(NAME, number).tags["refused"] == refused.reason
        # What is good is taken at once, whatever is being refused.
        registry.point(alias, "2")
        until(lambda: served(server) == {"1.1.0"}, server)
        until(lambda: warnings(server) == [], server)
    assert workers(server) == before
    assert {by for _, _, by in record.answers} == {"1.0.0", "1.1.0"}
    assert (record.failed, record.wrong) == ([], [])


def run_folder(tmp_path: Path) -> Path:
    [folder] = (tmp_path / "tmp").glob("carla-serve-*")
    return folder


def test_a_worker_that_is_new_serves_what_the_others_serve_while_a_version_is_refused(start_server, registry, alias):
    server = start(start_server, alias)
    registry.point(alias, registry.publish(of_other_contract(registry.artifacts[1], "9.1.0")))
    until(lambda: metric(server, "policy_refusals_total", reason="contract") == 2, server)
    for worker in workers(server):
        worker.kill()
        time.sleep(1)
        until(lambda: len(workers(server)) == 2, server)
    server.wait_ready()
    until(lambda: metric(server, "policy_refusals_total", reason="contract") == 4, server)
    assert served(server) == {"1.0.0"}
    assert server.stop() == 0
    again_started = start(start_server, alias)  # a restart takes the new contract
    assert again_started.get("/metadata").json["version"] == "9.1.0"


def test_a_killed_follower_is_started_again_and_goes_on(start_server, registry, alias):
    server = start(start_server, alias)
    with SteadyLoad(server.url, registry.questions, 4, PAUSE_S) as record:
        for number, version in (("2", "1.1.0"), ("1", "1.0.0")):
            until(lambda: follower(server), server)
            killed = follower(server)
            killed.kill()
            registry.point(alias, number)
            until(lambda version=version: served(server) == {version}, server)
    assert (record.failed, record.wrong) == ([], [])


def test_a_killed_worker_is_replaced_and_leaves_nothing_stale(start_server, registry, alias):
    server = start(start_server, alias)
    first, second = workers(server)
    first.kill()
    until(lambda: len(workers(server)) == 2 and not first.is_running(), server)
    registry.point(alias, "2")
    until(lambda: served(server) == {"1.1.0"}, server)
    assert second.is_running()


@pytest.mark.slow
@pytest.mark.parametrize(("which", "kills"), [("follower", 4), ("worker", 8)])  # a follower is given ever more rest
def test_killed_at_any_moment_of_a_swap_the_server_ends_on_what_the_registry_says(
    start_server, registry, alias, which, kills, tmp_path
):
    server = start(start_server, alias)
    for move, delay_s in enumerate(np.linspace(0.0, 1.2, kills)):
        number, version = ("2", "1.1.0") if move % 2 == 0 else ("1", "1.0.0")
        registry.point(alias, number)
        time.sleep(delay_s)
        until(lambda: follower(server), server)
        (follower(server) if which == "follower" else workers(server)[move % 2]).kill()
        server.pool = httpcore.ConnectionPool(max_connections=1)  # the one before may have been to who was killed
        until(lambda version=version: served(server) == {version}, server)
        until(lambda: len(workers(server)) == 2, server)
    assert ask(server, registry) == "1.0.0"
    # Who was killed may have been loading: then the version was tried elsewhere first, and is trusted again.
    assert {refused.kind for refused in list_refused(run_folder(tmp_path))} <= {"crash"}


def test_a_killed_server_takes_its_processes_along_and_starts_again_on_its_port(start_server, registry, alias):
    server = start(start_server, alias)
    children = psutil.Process(server.process.pid).children()
    registry.point(alias, "2")
    server.process.kill()
    gone, alive = psutil.wait_procs(children, timeout=PATIENCE_S)
    assert (len(gone), alive) == (3, [])
    again_started = start_server("--model", f"{NAME}@{alias}", "--port", server.url.rsplit(":", 1)[1])
    again_started.url = server.url
    again_started.wait_ready()
    until(lambda: served(again_started) == {"1.1.0"}, again_started)


def ask(server: Server, registry: Registry) -> str:
    answer = server.post("/predict", registry.questions.bodies[0])
    assert answer.status == 200
    return answer.json["version"]


def test_a_registry_that_is_stopped_or_killed_changes_nothing_until_it_is_back(start_server, registry, alias):
    server = start_impatient(start_server, alias, timeout_s=2)
    for end, begin, number, version in (
        (lambda: registry.server.signal(signal.SIGSTOP), lambda: registry.server.signal(signal.SIGCONT), "2", "1.1.0"),
        (registry.server.kill, registry.server.start, "1", "1.0.0"),
    ):
        with SteadyLoad(server.url, registry.questions, 4, PAUSE_S) as record:
            end()
            until(lambda: metric(server, "policy_registry_up") == 0, server)
            until(lambda: len(warnings(server)) == 1, server)  # each worker reads the follower's file by itself
            assert "does not answer; serving the last verified version" in warnings(server)[0]
            until(lambda: server.get("/metadata").json["registry"] == "unreachable", server)
            begin()
            registry.point(alias, number)
            until(lambda version=version: served(server) == {version}, server)
        until(lambda: metric(server, "policy_registry_up") == 1, server)
        until(lambda: warnings(server) == [], server)
        assert (record.failed, record.wrong) == ([], [])


def test_a_registry_that_errs_or_lies_changes_nothing(start_server, registry, alias, monkeypatch):
    with RegistryProxy(registry.server.uri) as proxy:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", proxy.url)
        server = start_impatient(start_server, alias)
        for mood in ("500", "html", "empty", "lie"):
            with SteadyLoad(server.url, registry.questions, 2, PAUSE_S) as record:
                proxy.mood = mood
                until(lambda: len(warnings(server)) == 1, server)
                time.sleep(1)
                assert ask(server, registry) == "1.0.0"
                proxy.mood = "pass"
                until(lambda: warnings(server) == [], server)
            assert {by for _, _, by in record.answers} == {"1.0.0"}
            assert (record.failed, record.wrong) == ([], [])


def drip(registry: Registry, number: str, monkeypatch) -> DrippingRegistry:
    """A registry before the real one; the downloads of one of MLflow's versions drip."""
    proxy = DrippingRegistry(registry.server.uri)
    proxy.drips = mlflow.MlflowClient().get_model_version(NAME, number).source.rpartition("/")[2]
    monkeypatch.setenv("MLFLOW_TRACKING_URI", proxy.url)
    return proxy


def test_a_download_that_drips_is_overtaken_by_a_later_promotion_and_by_a_roll_back(
    start_server, registry, alias, monkeypatch
):
    third = again(registry.artifacts[1], "1.2.0")
    other = registry.publish(third)
    with drip(registry, "2", monkeypatch) as proxy:
        server = start(start_server, alias)
        with SteadyLoad(server.url, Questions([*registry.artifacts, third]), 2, PAUSE_S) as record:
            registry.point(alias, "2")
            until(lambda: proxy.dripped, server)
            registry.point(alias, other)
            until(lambda: served(server) == {"1.2.0"}, server)
            registry.point(alias, "2")
            until(lambda: any("1.1.0: downloading" in warning for warning in warnings(server)), server)
            registry.point(alias, "1")
            until(lambda: served(server) == {"1.0.0"}, server)
            registry.point(alias, "2")
            proxy.drips = None
            until(lambda: served(server) == {"1.1.0"}, server)
        assert (record.failed, record.wrong) == ([], [])
        assert len(proxy.dripped) == len(set(proxy.dripped)) == len(registry.artifacts[1].files)  # each file once


def test_a_download_that_is_silent_is_given_up_and_begun_again(start_server, registry, alias, monkeypatch, tmp_path):
    with drip(registry, "2", monkeypatch) as proxy:
        server = start(start_server, alias, "--fetch-timeout-s", "1")
        registry.point(alias, "2")
        until(lambda: list_refused(run_folder(tmp_path)), server)
        [refused] = list_refused(run_folder(tmp_path))
        assert (refused.kind, refused.reason) == (
            "timeout",
            "the download wrote nothing for 1 s (--fetch-timeout-s) and was given up; MLflow writes whole megabytes",
        )
        proxy.drips = None
        until(lambda: served(server) == {"1.1.0"}, server)
        until(lambda: warnings(server) == [], server)
        assert not list((default_cache() / "artifacts").glob(".*.partial"))


def test_a_fresh_start_with_a_version_that_kills_who_loads_it_says_so_and_lives(start_server, registry, alias):
    registry.point(alias, registry.publish(crashing(registry.artifacts[1], "9.2.0")))
    server = start_server("--model", f"{NAME}@{alias}", "--workers", "2", "--poll-s", "0.5")
    server.wait_alive()
    until(lambda: b"the process that loaded it was killed (SIGSEGV)" in server.get("/readyz").body, server)
    assert server.get("/readyz").json["error"]["code"] == "not_ready"
    assert "was sent SIG" not in server.log.read_text()  # no worker died of it
    registry.point(alias, "1")
    server.wait_ready()


def test_a_version_that_a_worker_did_not_survive_is_tried_elsewhere_before_it_drives(
    start_server, registry, alias, tmp_path
):
    server = start(start_server, alias)
    settings = Settings(model=NAME)
    Attempts.of(settings, run_folder(tmp_path), registry.artifacts[1].digest).died("a worker was killed")
    registry.point(alias, "2")
    until(lambda: served(server) == {"1.1.0"}, server)
    assert Attempts.of(settings, run_folder(tmp_path), registry.artifacts[1].digest).read().deaths == 0
    until(lambda: warnings(server) == [], server)


def test_an_exact_version_of_a_registry_that_was_made_anew_is_followed_and_said(
    start_server, registry, alias, tmp_path, start_mlflow, monkeypatch
):
    first = start_server("--model", f"{NAME}@1.0.0")
    first.wait_ready()
    assert first.stop() == 0
    [remembered] = (default_cache() / "references").iterdir()
    anew = again(registry.artifacts[1], "1.0.0")
    other = start_mlflow("sqlite")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", other.uri)
    publish(anew, other.home)
    served_last = msgspec.json.decode(remembered.read_bytes(), type=Status)
    remember(Settings(model=NAME), f"{NAME}@1.0.0", served_last)  # as of one address
    second = start_server("--model", f"{NAME}@1.0.0")
    second.wait_ready()
    until(lambda: second.get("/metadata").json["digest"] == anew.digest, second)
    until(lambda: follower(second) is None, second)  # one answer was enough
    [warning] = warnings(second)
    assert warning.endswith(
        f"but was {registry.artifacts[0].digest} when it was served last; the registry was recreated"
    )
    assert second.stop() == 0
    third = start_server("--model", f"{NAME}@1.0.0")
    third.wait_ready()
    assert third.get("/metadata").json["digest"] == anew.digest
    until(lambda: follower(third) is None, third)
    assert warnings(third) == []


def test_an_alias_that_is_deleted_leaves_what_is_served(start_server, registry, alias):
    server = start(start_server, alias)
    mlflow.MlflowClient().delete_registered_model_alias(NAME, alias)
    until(lambda: len(warnings(server)) == 1, server)
    assert "no longer knows it; serving the last verified version" in warnings(server)[0]
    assert ask(server, registry) == "1.0.0"
    registry.point(alias, "2")
    until(lambda: served(server) == {"1.1.0"}, server)
    until(lambda: warnings(server) == [], server)


def test_a_new_version_in_a_range_is_followed_and_an_exact_one_is_not_asked_for_again(start_server, registry):
    fixed = start_server("--model", f"{NAME}@1.0.0")
    ranged = start_server("--model", f"{NAME}@>=1.0.0,<1.0.5", "--poll-s", "0.5")
    fixed.wait_ready()
    ranged.wait_ready()
    until(lambda: follower(fixed) is None, fixed)
    registry.publish(again(registry.artifacts[0], "1.0.3"))
    until(lambda: served(ranged) == {"1.0.3"}, ranged)
    assert served(fixed) == {"1.0.0"}
    time.sleep(3)
    assert follower(fixed) is None  # its work is done; nobody starts it again


def test_a_copy_that_was_damaged_in_the_cache_is_fetched_again_for_a_new_worker(
    start_server, registry, alias, tmp_path
):
    server = start(start_server, alias)
    [copy] = (default_cache() / "artifacts").iterdir()
    (copy / "model.onnx").write_bytes(b"nonsense")
    for worker in workers(server):
        worker.kill()
    until(lambda: not any(refused for refused in list_refused(run_folder(tmp_path))), server)
    with httpcore.ConnectionPool() as pool:
        until(lambda: pool.request("GET", f"{server.url}/readyz").status == 200, server)
    until(lambda: (copy / "model.onnx").read_bytes() == registry.artifacts[0].files["model.onnx"], server)


def test_memory_of_what_was_replaced_is_given_back(start_server, registry, alias):
    server = start(start_server, alias)

    def move(times: int) -> int:
        for _ in range(times):
            for number, version in (("2", "1.1.0"), ("1", "1.0.0")):
                registry.point(alias, number)
                until(lambda version=version: served(server) == {version}, server)
        return max(worker.memory_info().rss for worker in workers(server))

    settled = move(4)
    assert move(6) < settled + 4e6  # twelve more engines, each some megabytes while it is loaded


def test_what_a_server_says_it_serves_is_all_of_it(start_server, registry, alias):
    server = start(start_server, alias)
    metadata = server.get("/metadata").json
    digest = registry.artifacts[0].digest
    runs = {"name": NAME, "backend": "onnx", "device": "cpu"}
    assert metadata["served"] == [
        {"version": "1.0.0", "digest": digest, "stage": "candidate", "following": f"{NAME}@{alias}"} | runs
    ]
    assert metadata["following"] == f"{NAME}@{alias}"
    assert msgspec.json.encode(metadata["refused"]) == b"[]"
