"""How much the actions of an episode change from one to the next, as /metrics tells it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, MutableMapping
from pathlib import Path
from typing import Any

import httpcore
import msgspec
import numpy as np
import pytest
from conftest import servers
from following_support import metric
from numpy.typing import NDArray
from prometheus_client import REGISTRY
from tests_support import Server

from carla_mlflow import Actions
from carla_mlflow.contract.answer import AnswerColumn
from serve.answering.forward import BatchActions, BatchSlice, ForwardArrays
from serve.cluster.asgi import AsgiServer
from serve.dispatcher import Dispatcher
from serve.limits import MAX_EPISODE_ROWS, MAX_EPISODES
from serve.policy.loading import load
from serve.policy.slot import Slot
from serve.settings import Settings
from serve.telemetry import metrics
from serve.telemetry.latest_actions import LatestActions
from serve.web.app import create_app

SLOW = {"speed": 2.0, "steering": -0.2, "sensors": [0.9] * 12}
FAST = {"speed": 9.0, "steering": 0.2, "sensors": [0.3] * 12}


@pytest.fixture(scope="module", params=["loop", "gthread"])
def any_server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, example: Path
) -> Iterator[Server]:
    with servers(tmp_path_factory) as start:
        running = start("--model", str(example), "--worker-class", request.param)
        running.wait_ready()
        yield running


@pytest.fixture
def counted(any_server: Server) -> Callable[[], int]:
    """How many changes were counted since the last call."""
    last = [0.0]

    def since() -> int:
        before, last[0] = last[0], metric(any_server, "policy_action_change_count", dimension="steer") or 0.0
        return int(last[0] - before)

    since()
    return since


def act(server: Server, episode_id: str | None, *rows: dict[str, Any], **fields: Any) -> list[dict[str, float]]:
    headers = {} if episode_id is None else {"X-Episode-Id": episode_id}
    answer = server.post("/predict", {"observations": list(rows), **fields}, **headers)
    return answer.json["actions"] if answer.status == 200 else []


def test_the_change_of_steering_and_acceleration_is_counted(any_server: Server, counted: Callable[[], int]):
    sums = [
        [metric(any_server, "policy_action_change_sum", dimension=name) or 0.0 for name in ("steer", "acceleration")]
    ]
    [before], [after] = act(any_server, "sums", SLOW), act(any_server, "sums", FAST)
    assert counted() == 1
    sums.append([metric(any_server, "policy_action_change_sum", dimension=name) for name in ("steer", "acceleration")])
    wanted = [
        abs(after["steer"] - before["steer"]),
        abs((after["throttle"] - after["brake"]) - (before["throttle"] - before["brake"])),
    ]
    assert min(wanted) > 0
    assert np.subtract(sums[1], sums[0]) == pytest.approx(wanted, rel=1e-5)
    assert metric(any_server, "policy_action_change_count", dimension="acceleration", version="0.1.0") == metric(
        any_server, "policy_action_change_count", dimension="steer", version="0.1.0"
    )


def test_only_actions_of_one_episode_are_compared_row_by_row(any_server: Server, counted: Callable[[], int]):
    act(any_server, "rows", SLOW, FAST)
    act(any_server, "rows-2", SLOW)
    act(any_server, None, SLOW)
    act(any_server, None, SLOW)
    assert counted() == 0
    act(any_server, "rows", FAST, SLOW)
    assert counted() == 2
    act(any_server, "rows", FAST)  # another number of rows: nothing says which car is left
    assert counted() == 0
    act(any_server, "rows", FAST)
    act(any_server, "rows-2", SLOW)
    assert counted() == 2


def test_the_parameter_of_v2_names_the_same_episode_as_the_header(any_server: Server, counted: Callable[[], int]):
    inputs = [
        {"name": name, "shape": [1, 12] if name == "sensors" else [1], "datatype": "FP32", "data": np.ravel(value)}
        for name, value in FAST.items()
    ]
    act(any_server, "both", SLOW)
    document = {"parameters": {"episode_id": "both"}, "inputs": inputs}
    body = msgspec.json.encode(document, enc_hook=np.ndarray.tolist)
    assert any_server.post("/v2/models/racetrack-policy/infer", body).status == 200
    assert counted() == 1


def test_an_error_in_between_ends_the_comparison(any_server: Server, counted: Callable[[], int]):
    for name, wrong in (("late", {"budget_ms": 0}), ("refused", {"seed": -1})):
        act(any_server, name, SLOW)
        assert act(any_server, name, SLOW, **wrong) == []
        act(any_server, name, SLOW)
        assert counted() == 0
        act(any_server, name, SLOW)
        assert counted() == 1


def test_nothing_is_kept_beyond_the_connection(any_server: Server, counted: Callable[[], int]):
    act(any_server, "gone", SLOW)
    any_server.pool.close()
    any_server.pool = httpcore.ConnectionPool(max_connections=1)
    act(any_server, "gone", SLOW)
    assert counted() == 0


def test_a_connection_keeps_the_last_used_episodes(any_server: Server, counted: Callable[[], int]):
    for index in range(MAX_EPISODES):
        act(any_server, f"car-{index}", SLOW)
    act(any_server, "car-0", SLOW)
    assert counted() == 1
    act(any_server, "another", SLOW)  # in the place of car-1
    act(any_server, "car-0", SLOW)
    act(any_server, "car-2", SLOW)
    assert counted() == 2
    act(any_server, "car-1", SLOW)
    assert counted() == 0


def rows(count: int) -> NDArray[np.float32]:
    return np.zeros((count, 3), np.float32)


def test_the_rows_that_a_connection_keeps_are_limited_together():
    latest = LatestActions()
    latest.replace("few", rows(4))
    latest.replace("most", rows(MAX_EPISODE_ROWS - 4))
    assert latest.replace("few", rows(4)) is not None
    latest.replace("few", rows(5))
    assert latest.replace("most", rows(MAX_EPISODE_ROWS)) is None
    assert latest.replace("few", rows(5)) is None
    latest.replace("too many", rows(MAX_EPISODE_ROWS + 1))
    assert latest.replace("too many", rows(MAX_EPISODE_ROWS + 1)) is None
    latest.forget("never seen")


async def asked_twice(folder: Path, example: Path) -> list[dict[bytes, bytes]]:
    """The heads of two answers of one episode, from a server behind an ASGI server."""
    settings, slot = Settings(model=str(example)), Slot(folder)
    slot.serve(0, load(example, None, settings, folder), None)
    dispatcher = Dispatcher(asyncio.get_running_loop(), create_app(settings, slot), slot, settings)
    headers = [(b"content-type", b"application/json"), (b"x-episode-id", b"behind-ray")]
    scope = {"type": "http", "method": "POST", "path": "/predict", "headers": headers}

    async def receive() -> MutableMapping[str, Any]:
        return {"type": "http.request", "body": msgspec.json.encode({"observations": [SLOW]})}

    answers = [await AsgiServer(dispatcher).answer(scope, receive) for _ in range(2)]
    dispatcher.stop()
    assert [status for status, _, _ in answers] == [200, 200]
    return [dict(found) for _, found, _ in answers]


def test_behind_another_server_the_id_comes_back_and_nothing_is_compared(tmp_path: Path, example: Path):
    before = REGISTRY.get_sample_value("policy_action_change_count", {"dimension": "steer", "version": "0.1.0"})
    heads = asyncio.run(asked_twice(tmp_path, example))
    assert [head[b"x-episode-id"] for head in heads] == [b"behind-ray"] * 2
    metrics.BUFFER.flush()
    assert REGISTRY.get_sample_value("policy_action_change_count", {"dimension": "steer", "version": "0.1.0"}) == before


def test_under_another_wsgi_server_the_id_comes_back_and_nothing_is_compared(tmp_path: Path, example: Path):
    settings, slot = Settings(model=str(example)), Slot(tmp_path)
    slot.serve(0, load(example, None, settings, tmp_path), None)
    client = create_app(settings, slot).test_client()
    before = REGISTRY.get_sample_value("policy_action_change_count", {"dimension": "steer", "version": "0.1.0"})
    for _ in range(2):
        answer = client.post("/predict", json={"observations": [SLOW]}, headers={"X-Episode-Id": "foreign"})
        assert (answer.status_code, answer.headers["X-Episode-Id"]) == (200, "foreign")
    metrics.BUFFER.flush()
    assert REGISTRY.get_sample_value("policy_action_change_count", {"dimension": "steer", "version": "0.1.0"}) == before


@pytest.mark.parametrize(("bound", "is_steering"), [(1.0, True), (70.0, False)])
def test_a_named_value_in_units_of_its_own_is_no_steering(bound: float, is_steering: bool):
    control = np.float32([[0.5]])
    answered = BatchSlice(BatchActions(ForwardArrays({}, Actions(control, control, names=("steer",)), None)), 0, 1)
    assert (answered.pedals((AnswerColumn("steer", -bound, bound),)) is not None) == is_steering
