from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpcore
import msgspec
import numpy as np
import psutil
import pytest
from following_support import until, until_true
from odd_server import answering_oddly
from relay import relaying
from tests_support import EXAMPLE, Server

from benchmarks.support.free_port import free_port
from carla_agent.thin_client import ThinClient
from carla_mlflow import (
    Actions,
    AsyncPolicyClient,
    Card,
    Engine,
    Policy,
    PolicyClient,
    ResultCache,
    open_artifact,
)
from carla_mlflow.client import wire
from carla_mlflow.client.wire import Remote
from carla_mlflow.errors import ContractError, ServerError, SpecError, UnreachableError


def test_the_remote_policy_answers_as_the_local_one(server: Server, example: Path):
    engine = Engine.open(example, device="cpu")
    golden = engine.golden.observations
    with PolicyClient(server.url) as client:
        for how in ({}, {"deterministic": False, "seed": 11}):
            local, remote = engine.act(golden, **how), client.act(golden, **how)
            assert remote.control.tobytes() == local.control.tobytes()
            assert remote.raw.tobytes() == local.raw.tobytes()
            assert remote.seed == local.seed
            for name, values in local.distribution.items():
                assert remote.distribution[name].tobytes() == values.tobytes()
        assert (client.version, client.digest) == ("0.1.0", engine.digest)


def test_what_does_not_fit_the_card_is_refused_before_it_is_sent(server: Server):
    with PolicyClient(server.url) as client, pytest.raises(SpecError, match=r"speed: 99 is outside \[0, 60\]"):
        client.act([{"speed": 99.0, "steering": 0.0, "sensors": [0.5] * 12}])


def test_a_refusal_carries_the_servers_code(server: Server):
    with PolicyClient(server.url) as client:
        row = {"speed": np.zeros(1025), "steering": np.zeros(1025), "sensors": np.zeros((1025, 12))}
        with pytest.raises(ServerError, match="1 to 1024 observations") as caught:
            client.act(row)
        assert caught.value.code == "bad_request"


ROW = [{"speed": 6.0, "steering": 0.1, "sensors": [0.5] * 12}]


def test_an_answer_after_the_budget_is_the_cards_fallback(server: Server):
    with PolicyClient(server.url) as client:
        late = client.act(ROW * 3, budget_ms=0)
        assert late.fallback
        assert late.control.tolist() == [[0.0, 1.0, 0.0]] * 3
        assert late.raw.shape == (0, 2)
        in_time = client.act(ROW, budget_ms=10_000)
        assert not in_time.fallback
        assert len(in_time.raw) == 1


def test_a_server_that_is_silent_costs_no_more_than_the_budget(server: Server):
    with PolicyClient(server.url) as client:
        worker = psutil.Process(server.process.pid).children()[0]
        worker.suspend()
        try:
            assert client.act(ROW, budget_ms=200).fallback  # the worker answers nothing before it is resumed
        finally:
            worker.resume()
        assert not client.act(ROW, budget_ms=5000).fallback


def test_a_connection_that_was_closed_meanwhile_is_opened_again(start_server: Callable[..., Server], example: Path):
    first = start_server("--model", str(example))
    first.wait_ready()
    with PolicyClient(first.url) as client:
        before = client.act(ROW).control
        worker = psutil.Process(first.process.pid).children()[0]
        worker.kill()
        worker.wait()
        first.pool.close()
        first.pool = httpcore.ConnectionPool(max_connections=1)
        first.wait_ready()
        assert client.act(ROW).control.tobytes() == before.tobytes()


def test_another_contract_than_the_callers_is_an_error_at_connecting(server: Server, example: Path):
    card = open_artifact(example).card
    with PolicyClient(server.url, expected=card) as client:
        assert client.card == card
    fields = dict(card.observation)
    fields["radar"] = fields.pop("sensors")
    with pytest.raises(ContractError, match="has other observations than expected: radar, sensors"):
        PolicyClient(server.url, expected=msgspec.structs.replace(card, observation=fields))
    action = msgspec.structs.replace(card.action, rate_hz=1.0)
    with pytest.raises(ContractError, match="has other actions than expected"):
        PolicyClient(server.url, expected=msgspec.structs.replace(card, action=action))


def test_a_key_is_brought_and_its_want_is_told(start_server: Callable[..., Server], example: Path, monkeypatch):
    monkeypatch.setenv("POLICY_API_KEY", "s3cret")
    server = start_server("--model", str(example))
    server.wait_ready()
    with PolicyClient(server.url, api_key="s3cret") as client:
        assert len(client.act(ROW).control) == 1
    with pytest.raises(ServerError, match="Bearer") as caught:
        PolicyClient(server.url)
    assert caught.value.code == "unauthorized"


def test_asyncios_client_asks_many_things_at_once(server: Server, example: Path):
    engine = Engine.open(example, device="cpu")
    golden = engine.golden.observations

    async def ask() -> list[Actions]:
        async with AsyncPolicyClient(server.url) as client:
            late = await client.act(golden, budget_ms=0)
            assert late.fallback
            rows = [{name: array[i : i + 1] for name, array in golden.items()} for i in range(40)]
            answers = await asyncio.gather(*(client.act(row) for row in rows))
            assert (client.version, client.digest) == ("0.1.0", engine.digest)
            return answers

    answers = asyncio.run(ask())
    wanted = engine.act(golden).control
    assert [a.control.tobytes() for a in answers] == [wanted[i : i + 1].tobytes() for i in range(40)]


def test_asyncios_client_connects_with_its_first_question(server: Server, example: Path):
    async def ask() -> Actions:
        client = AsyncPolicyClient(server.url)
        with pytest.raises(ServerError, match="not connected yet"):
            _ = client.card
        try:
            answer = await client.act(ROW)
            assert client.card == open_artifact(example).card
            await client.connect()  # which it is
            return answer
        finally:
            await client.close()

    assert asyncio.run(ask()).control.tobytes() == Engine.open(example, device="cpu").act(ROW).control.tobytes()


def test_what_acts_is_asked_alike(server: Server, example: Path):
    engine = Engine.open(str(example), device="cpu")
    with PolicyClient(server.url) as client:
        policies: list[Policy] = [engine, ResultCache(engine, 8), client]
        for policy in policies:
            assert (policy.card, policy.digest) == (Card.load(example), open_artifact(str(example)).digest)
            assert policy.act(ROW).control.tobytes() == engine.act(ROW).control.tobytes()


def act_by(kind: str, url: str, **options: Any) -> Actions:
    if kind == "sync":
        with PolicyClient(url, timeout_s=1.0) as client:
            return client.act(ROW, **options)

    async def ask() -> Actions:
        async with AsyncPolicyClient(url, timeout_s=1.0) as client:
            return await client.act(ROW, **options)

    return asyncio.run(ask())


@pytest.mark.parametrize("kind", ["sync", "asyncio"])
@pytest.mark.parametrize("part", ["head", "body"])
def test_an_answer_that_trickles_costs_no_more_than_the_budget(server: Server, kind: str, part: str):
    with answering_oddly(server, part) as odd:
        assert act_by(kind, odd.url, budget_ms=200).fallback
        with pytest.raises(UnreachableError, match="no answer"):
            act_by(kind, odd.url)
        assert odd.questions == 2


@pytest.mark.parametrize("kind", ["sync", "asyncio"])
def test_only_a_connection_that_ended_between_two_questions_is_opened_anew(server: Server, kind: str):
    with answering_oddly(server, "broken") as odd:
        with pytest.raises(UnreachableError, match="no answer"):
            act_by(kind, odd.url)
        assert odd.questions == 1  # a part of an answer had come
    with answering_oddly(server, "ended") as odd:
        with pytest.raises(UnreachableError, match="no answer"):
            act_by(kind, odd.url)
        assert odd.questions == 2  # the kept connection, and a new one


@pytest.mark.parametrize("budget", [-1.0, float("nan"), float("inf")])
def test_a_budget_that_is_none_is_refused_before_it_is_sent(server: Server, budget: float):
    with PolicyClient(server.url) as client, pytest.raises(SpecError, match="budget_ms: expected milliseconds"):
        client.act(ROW, budget_ms=budget)


def test_a_budget_is_not_spent_on_looking_up_the_servers_name(server: Server, monkeypatch: pytest.MonkeyPatch):
    look_up, looked_up, may_answer = socket.getaddrinfo, [], threading.Event()

    def slow(host: Any, *arguments: Any, **options: Any) -> Any:
        if host in ("localhost", b"localhost"):
            looked_up.append(threading.current_thread())
            may_answer.wait(20)
        return look_up(host, *arguments, **options)

    with relaying(server.url) as relay, PolicyClient(relay.url.replace("127.0.0.1", "localhost")) as client:
        monkeypatch.setattr(socket, "getaddrinfo", slow)
        relay.drop()
        assert not client.act(ROW, budget_ms=10_000).fallback  # over a new connection
        assert b"Host: localhost:" in relay.asked
        assert looked_up == []
        relay.cut()
        for _ in range(3):
            with pytest.raises(UnreachableError, match="no answer"):
                client.act(ROW, budget_ms=10_000)
        until_true(lambda: looked_up)
        assert len(looked_up) == 1  # the server may have moved: its name is looked up beside, once at a time
        assert looked_up[0] is not threading.current_thread()
        may_answer.set()
        looked_up[0].join()
        relay.connect()
        assert not client.act(ROW, budget_ms=10_000).fallback


def test_asyncios_client_leaves_the_look_up_of_a_name_at_the_end_of_the_budget(
    server: Server, monkeypatch: pytest.MonkeyPatch
):
    look_up, may_answer = socket.getaddrinfo, threading.Event()

    async def ask(url: str) -> Actions:
        async with AsyncPolicyClient(url) as client:
            monkeypatch.setattr(socket, "getaddrinfo", lambda *given, **more: may_answer.wait(20) and look_up(*given))
            relay.drop()
            try:
                return await client.act(ROW, budget_ms=200)
            finally:
                may_answer.set()

    with relaying(server.url) as relay:
        assert asyncio.run(ask(relay.url.replace("127.0.0.1", "localhost"))).fallback


@pytest.mark.parametrize("place", [0, 1, 2])
@pytest.mark.parametrize("wrong", [float("nan"), float("inf"), 7.0, -9.0])
def test_a_control_that_no_car_can_do_is_the_servers_error(server: Server, place: int, wrong: float):
    with relaying(server.url) as relay, PolicyClient(relay.url) as client:
        control = client.act(ROW).control
        relay.replaced = (control.tobytes(), np.where(np.arange(3) == place, np.float32(wrong), control).tobytes())
        with pytest.raises(ServerError, match="an action is outside the bounds of throttle, brake, steer"):
            client.act(ROW)


def test_a_host_that_is_not_there_is_unreachable():
    with pytest.raises(UnreachableError, match="no answer"):
        PolicyClient("http://nobody.invalid:8080")


def test_no_server_is_unreachable():
    with pytest.raises(UnreachableError, match="no answer"):
        PolicyClient(f"http://127.0.0.1:{free_port()}")


def test_a_url_without_a_scheme_is_refused():
    with pytest.raises(ServerError, match="expected a URL"):
        PolicyClient("localhost:8080")


def episodes_in(server: Server) -> list[str | None]:
    """The episodes of the predictions in a server's log, in order."""
    lines = [msgspec.json.decode(line) for line in server.log.read_bytes().splitlines() if line.startswith(b"{")]
    return [line["episode_id"] for line in lines if line.get("route", "").startswith("/v2")]


def test_the_requests_of_an_episode_name_it_and_others_do_not(start_server: Callable[..., Server], example: Path):
    server = start_server("--model", str(example), "--log-format", "json", "--log-requests", "all")
    server.wait_ready()
    with PolicyClient(server.url) as client:
        episode, drawn = client.start_episode("town05.route-7"), client.start_episode()
        episode.act(ROW[0])
        assert episode.act(ROW[0], budget_ms=10_000).fallback is False
        client.act(ROW)
        drawn.act(ROW[0])
    assert drawn.id != episode.id == "town05.route-7"

    async def ask() -> str:
        async with AsyncPolicyClient(server.url) as client:
            started = client.start_episode()
            await started.act(ROW[0])
            await started.act(ROW[0])
            return started.id

    other = asyncio.run(ask())
    assert other != drawn.id
    until(lambda: len(episodes_in(server)) == 6, server)  # a line is written after its answer
    assert episodes_in(server) == ["town05.route-7", "town05.route-7", None, drawn.id, other, other]


@pytest.mark.parametrize("name", ["", "a b", "x" * 65, "route/7", "a\r\nX-Evil: 1", "ä", 7])
def test_an_episode_with_another_name_is_not_started(server: Server, name: Any):
    with PolicyClient(server.url) as client:
        for each in (client, AsyncPolicyClient(server.url)):
            with pytest.raises(SpecError, match="episode_id: expected 1 to 64 characters"):
                each.start_episode(name)
        client.act(ROW)


def metadata_of(card: Card, digest: str) -> bytes:
    return msgspec.json.encode({"card": card, "version": card.version, "digest": digest})


def test_another_versions_card_stands_in_until_its_own_is_told(monkeypatch: pytest.MonkeyPatch):
    card = open_artifact(EXAMPLE).card
    slower = {**card.action.fallback, "brake": 0.5}
    later = msgspec.structs.replace(card, action=msgspec.structs.replace(card.action, fallback=slower))
    remote = Remote("http://127.0.0.1:1", "", None)
    remote.read_metadata(200, metadata_of(card, "first"))
    assert remote.is_new("later")
    remote.read_metadata(200, metadata_of(card, "first"), answered="later")  # a worker that has not swapped yet
    assert not remote.is_new("later")
    monkeypatch.setattr(wire, "STAND_IN_S", -1.0)
    assert remote.is_new("later")
    assert not remote.is_new("first")
    remote.read_metadata(200, metadata_of(later, "later"), answered="later")
    assert not remote.is_new("later")
    remote.digest = "later"
    remote.read_metadata(200, metadata_of(later, "later"))
    assert remote.fallback(1).actions.control[0].tolist() == [0.0, 0.5, 0.0]


def test_a_version_that_answers_and_is_not_the_active_one_is_compared_once_and_keeps_its_name(server: Server):
    batch = {"speed": np.float32([4.0]), "steering": np.float32([0.0]), "sensors": np.full((1, 12), 0.5, np.float32)}
    with relaying(server.url) as relay, PolicyClient(relay.url) as client, ThinClient(relay.url, 20_000.0) as thin:
        active = client.digest
        held = active[:-8] + ("0" * 8 if active[-8:] != "0" * 8 else "1" * 8)
        relay.replaced = (f'{{"digest":"{active}"'.encode(), f'{{"digest":"{held}"'.encode())  # of actions only
        asked = relay.asked.count(b"GET /metadata")
        for _ in range(3):
            client.act(batch)
            thin.act({name: values[0] for name, values in batch.items()})
            assert (client.digest, thin.digest, thin.fell_back) == (held, held, None)
        assert relay.asked.count(b"GET /metadata") == asked + 2  # each client's once
        relay.replaced = (b"", b"")
        client.act(batch)
        assert (client.digest, relay.asked.count(b"GET /metadata")) == (active, asked + 2)

        async def ask() -> tuple[str, int]:
            async with AsyncPolicyClient(relay.url) as beside:
                relay.replaced = (f'{{"digest":"{active}"'.encode(), f'{{"digest":"{held}"'.encode())
                for _ in range(3):
                    await beside.act(batch)
                return beside.digest, relay.asked.count(b"GET /metadata")

        assert asyncio.run(ask()) == (held, asked + 4)
