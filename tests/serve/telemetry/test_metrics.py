"""What /metrics tells is right whichever worker is asked."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from pathlib import Path

import httpcore
import msgspec
import psutil
import pytest
from following_support import metric, until, workers
from msgspec.structs import replace
from registry_policies import changed
from tests_support import Server

from carla_mlflow import open_artifact
from carla_mlflow.contract.field_card import Seen
from serve.process.loop_worker import SWEEP_S

BODY = {"observations": [{"speed": 6.0, "steering": 0.1, "sensors": [0.5] * 12}]}


def ask_elsewhere(server: Server, body: bytes) -> int:
    """On a connection of its own, so that another worker may answer."""
    headers = {"Host": "localhost", "Content-Type": "application/json"}
    return httpcore.request("POST", f"{server.url}/predict", headers=headers, content=body).status


def test_requests_and_actions_are_summed_over_the_workers(start_server: Callable[..., Server], example: Path):
    server = start_server("--model", str(example), "--workers", "2", "--result-cache", "100")
    server.wait_ready()
    until(lambda: (metric(server, "policy_model_info", version="0.1.0") or 0) == 1, server)
    statuses = [ask_elsewhere(server, b'{"observations":[]}') for _ in range(20)]
    until(lambda: server.post("/predict", BODY).status == 200, server)
    asked = statuses.count(400)
    time.sleep(3 * SWEEP_S)  # the other worker hands over what it counted
    before = metric(server, "policy_actions_total", version="0.1.0")
    for _ in range(5):
        assert server.post("/predict", {"observations": BODY["observations"] * 3}).status == 200
    time.sleep(3 * SWEEP_S)
    assert metric(server, "policy_actions_total", version="0.1.0") == before + 15
    assert metric(server, "policy_requests_total", route="/predict", code="400") == asked
    hits = metric(server, "policy_result_cache_rows_total", outcome="hit")
    misses = metric(server, "policy_result_cache_rows_total", outcome="miss")
    assert hits + misses == before + 15
    for part in ("queue", "decode", "inference", "total"):
        assert metric(server, "policy_latency_seconds_count", part=part) >= 5
    assert server.get("/metrics").headers["content-type"].startswith("text/plain")
    assert metric(server, "policy_registry_up") is None  # a folder has no registry


def test_a_worker_that_died_keeps_its_counts_and_leaves_no_gauge(start_server: Callable[..., Server], example: Path):
    server = start_server("--model", str(example))
    server.wait_ready()
    for _ in range(7):
        server.post("/predict", BODY)
    time.sleep(3 * SWEEP_S)  # what was counted since the last is lost with a worker
    [worker] = workers(server)
    worker.kill()
    until(lambda: [w for w in workers(server) if w.pid != worker.pid], server)
    server.pool.close()
    server.pool = httpcore.ConnectionPool(max_connections=1)
    server.wait_ready()
    assert metric(server, "policy_actions_total", version="0.1.0") == 7
    info = [line for line in server.get("/metrics").body.decode().splitlines() if line.startswith("policy_model_info{")]
    assert len(info) == 1
    for label in ('name="racetrack-policy"', 'version="0.1.0"', 'backend="onnx"', 'device="cpu"', 'stage=""'):
        assert label in info[0]


def test_what_nobody_serves_is_counted_under_one_label(server: Server):
    for path in ("/a", "/b", "/c/d"):
        assert server.get(path).status == 404
    text = server.get("/metrics").body.decode()
    assert 'route="other"' in text
    assert "/c/d" not in text


def test_values_that_training_never_saw_are_counted(start_server: Callable[..., Server], tmp_path: Path, example: Path):
    section = open_artifact(example).card.observation
    speed = replace(section["speed"], seen=Seen(0.0, 9.5))
    folder = changed(tmp_path, "0.1.1", observation={**section, "speed": speed})
    server = start_server("--model", folder)
    server.wait_ready()
    for speed_mps, rows in ((45.0, 50), (6.5, 7), (9.6, 1)):
        row = {"speed": speed_mps, "steering": 0.0, "sensors": [0.5] * 12}
        assert server.post("/predict", {"observations": [row] * rows}).status == 200
    assert metric(server, "policy_out_of_range_total", field="speed") == 51
    assert metric(server, "policy_out_of_range_total", field="steering") == 0


def test_counters_are_there_at_zero_before_their_first_event(start_server: Callable[..., Server], example: Path):
    server = start_server("--model", str(example))
    server.wait_ready()
    for name, labels in (
        ("policy_fallbacks_total", {"reason": "deadline_exceeded"}),
        ("policy_refusals_total", {"reason": "parity"}),
        ("policy_unusable_actions_total", {"version": "0.1.0"}),
        ("policy_requests_total", {"route": "/predict", "code": "500", "version": "0.1.0"}),
        ("policy_swaps_total", {}),
    ):
        assert metric(server, name, **labels) == 0, name
    for name, labels in (
        ("policy_actions_total", {"version": "0.1.0"}),
        ("policy_saturated_total", {"dimension": "steer"}),
        ("policy_out_of_range_total", {"field": "speed"}),
    ):
        assert metric(server, name, **labels) is not None, name


@pytest.mark.parametrize("worker_class", ["loop", "gthread"])
def test_processes_tell_what_they_take_together_and_each_worker_by_its_place(
    start_server: Callable[..., Server], example: Path, worker_class: str
):
    server = start_server("--model", str(example), "--workers", "2", "--worker-class", worker_class)
    server.wait_ready()
    each = [psutil.Process(server.process.pid), *workers(server)]
    memory = sum(process.memory_info().rss for process in each)
    assert metric(server, "process_resident_memory_bytes") == pytest.approx(memory, rel=0.2)
    assert metric(server, "process_open_fds") >= sum(process.num_fds() for process in workers(server))
    assert metric(server, "process_max_fds") == each[1].rlimit(psutil.RLIMIT_NOFILE)[0]
    assert metric(server, "process_start_time_seconds") == pytest.approx(each[0].create_time(), abs=0.1)
    before = metric(server, "process_cpu_seconds_total")
    assert before > 0

    def began() -> dict[str, float | None]:
        return {place: metric(server, "policy_worker_start_time_seconds", worker=place) for place in "01"}

    first = began()
    assert None not in first.values()
    each[1].kill()
    server.pool.close()
    server.pool = httpcore.ConnectionPool(max_connections=1)
    until(lambda: None not in (now := began()).values() and now != first, server)
    assert metric(server, "process_cpu_seconds_total") >= before  # what the dead one used stays counted
    text = server.get("/metrics").body.decode()
    assert set(re.findall(r'policy_worker_cpu_seconds_total\{worker="(\w+)"', text)) == {"0", "1"}


@pytest.mark.parametrize("worker_class", ["loop", "gthread"])
def test_the_last_minute_is_kept_for_whoever_comes_and_summed_over_the_workers(
    start_server: Callable[..., Server], example: Path, worker_class: str
):
    server = start_server("--model", str(example), "--workers", "2", "--worker-class", worker_class)
    server.wait_ready()
    body = msgspec.json.encode({"observations": BODY["observations"] * 3})
    for _ in range(20):
        assert ask_elsewhere(server, body) == 200

    def minute() -> dict[str, list[tuple[float | None, int]]]:
        return server.get("/metadata").json["last_minute"]

    until(lambda: sum(count for _, count in minute()["latency"]) == 20, server)
    told = minute()
    assert {name: sum(count for _, count in told[name]) for name in ("throttle", "brake", "steer")} == dict.fromkeys(
        ("throttle", "brake", "steer"), 60
    )
    for name, lowest in (("throttle", 0), ("brake", 0), ("steer", -1)):
        bounds = [bound for bound, _ in told[name]]
        assert (bounds[0], bounds[-2], bounds[-1]) == (lowest, 1, None)
    action = server.post("/predict", BODY).json["actions"][0]
    [throttle] = [bound for bound, count in told["throttle"] if count]
    assert throttle - 0.1 <= action["throttle"] <= throttle


def test_what_a_policy_does_is_counted_under_its_version(start_server: Callable[..., Server], example: Path):
    server = start_server("--model", str(example))
    server.wait_ready()
    for _ in range(5):
        assert server.post("/predict", BODY).status == 200
    assert server.post("/predict", BODY | {"budget_ms": 0}).status == 504
    for part in ("queue", "decode", "inference", "total"):
        assert metric(server, "policy_latency_seconds_count", part=part, version="0.1.0") >= 5
    for name, labels, value in (
        ("policy_action_count", {"dimension": "steer"}, 5),
        ("policy_out_of_range_total", {"field": "speed"}, 0),
        ("policy_saturated_total", {"dimension": "steer"}, 0),
        ("policy_fallbacks_total", {"reason": "deadline_exceeded"}, 1),
    ):
        assert metric(server, name, version="0.1.0", **labels) == value, name


def test_the_last_half_hour_is_told_without_gauges(start_server: Callable[..., Server], example: Path):
    server = start_server("--model", str(example))
    server.wait_ready()
    assert server.post("/predict", BODY).status == 200
    last = server.get("/metrics?last=30m").body.decode()
    assert 'policy_actions_total{version="0.1.0"} 1.0' in last  # it is younger than that
    assert "policy_model_info" not in last
    assert "process_open_fds" not in last
    wrong = server.get("/metrics?last=1h")
    assert (wrong.status, wrong.json["error"]["field"]) == (400, "last")
