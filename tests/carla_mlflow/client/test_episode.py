"""Episodes over the network: the version that began one goes on with it, or it begins anew, and says so."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from episode_policies import frames, stacks, watching
from following_support import following_folder, promote, put
from relay import relaying
from remembering_export import exported_lstm
from tests_support import Server, own_cache

from carla_agent.thin_client import ThinClient
from carla_mlflow import Artifact, AsyncPolicyClient, Engine, PolicyClient, ServerError, SpecError

Start = Callable[..., Server]
TICKS = frames(12)


@pytest.fixture(scope="module")
def artifacts() -> list[Artifact]:
    """Two versions of one contract, whose actions hold for one tick."""
    return [watching("1.0.0", 0, repeat=1), watching("1.1.0", 1, repeat=1)]


@pytest.fixture
def policies(tmp_path: Path, artifacts: list[Artifact], monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that holds 1.0.0."""
    own_cache(monkeypatch, tmp_path)
    put(tmp_path / "policies", artifacts[0])
    return tmp_path / "policies"


def wanted(artifact: Artifact, first: int, last: int) -> list[bytes]:
    """The right actions of the ticks from `first` to `last`; the history goes back to the episode's first tick."""
    engine = Engine(artifact, device="cpu")
    return [engine.act(stacks(TICKS, at)).control.tobytes() for at in range(first, last)]


def test_an_episode_ends_with_its_version_and_the_next_begins_with_the_new_one(
    start_server: Start, policies: Path, artifacts: list[Artifact]
):
    server = following_folder(start_server, policies, "--workers", "2")
    old, new = artifacts
    with PolicyClient(server.url) as client, ThinClient(server.url, 20_000.0) as thin:
        episode = client.start_episode()
        driven = [episode.act(tick) for tick in TICKS[:4]]
        thinly = [thin.act(tick) for tick in TICKS[:4]]
        promote(server, policies, new)
        driven += [episode.act(tick) for tick in TICKS[4:]]
        thinly += [thin.act(tick) for tick in TICKS[4:]]
        assert [each.control.tobytes() for each in driven] == wanted(old, 0, 12)
        assert thinly == [each.vehicle_control() for each in driven]
        assert (thin.digest, thin.restarts) == (old.digest, {})
        assert (episode.digest, episode.restarts.total(), client.version) == (old.digest, 0, "1.0.0")
        assert client.card.version == "1.0.0"
        next_one = client.start_episode()
        assert next_one.act(TICKS[0]).control.tobytes() == wanted(new, 0, 1)[0]
        assert (next_one.digest, client.card.version) == (new.digest, "1.1.0")


def test_an_episode_of_a_version_that_is_gone_begins_anew_at_once_with_what_it_saw(
    start_server: Start, policies: Path, artifacts: list[Artifact], caplog: pytest.LogCaptureFixture
):
    server = following_folder(start_server, policies, "--episode-hold-s", "0")
    old, new = artifacts

    async def drive() -> tuple[list[bytes], dict[str, int]]:
        async with AsyncPolicyClient(server.url) as client:
            beside = client.start_episode()
            driven = [(await beside.act(tick)).control.tobytes() for tick in TICKS[:4]]
            await asyncio.to_thread(promote, server, policies, new)
            driven += [(await beside.act(tick)).control.tobytes() for tick in TICKS[4:]]
            return driven, dict(beside.restarts)

    with ThinClient(server.url, 20_000.0) as thin:
        thinly = [thin.act(tick) for tick in TICKS[:4]]
        driven, restarts = asyncio.run(drive())
        thinly += [thin.act(tick) for tick in TICKS[4:]]
        assert (thin.digest, thin.fell_back, thin.restarts) == (new.digest, None, {"episode_of_another_version": 1})
    assert len(set(thinly)) == 12
    assert driven == wanted(old, 0, 4) + wanted(new, 4, 12)
    assert restarts == {"episode_of_another_version": 1}
    assert [each.message for each in caplog.records if each.name == "carla_mlflow"] == [
        "an episode begins anew, and further ones of its kind are counted only: episode_of_another_version"
    ]


def seen(count: int) -> list[dict[str, Any]]:
    rng = np.random.default_rng(3)
    return [{"speed": rng.uniform(0, 60), "beams": rng.uniform(0, 1, 12).astype(np.float32)} for _ in range(count)]


def driven_here(engine: Engine, ticks: list[dict[str, Any]]) -> list[tuple[float, ...]]:
    episode = engine.start_episode()
    return [episode.act(tick).vehicle_control() for tick in ticks]


@pytest.fixture(scope="module")
def remembering() -> Artifact:
    return exported_lstm("1.0.0").artifact


def test_a_memory_is_the_same_over_two_workers_and_after_a_restart_in_the_middle(
    start_server: Start, tmp_path: Path, remembering: Artifact
):
    folder, ticks = str(put(tmp_path, remembering)), seen(16)
    first, second = (start_server("--model", folder, "--workers", "2") for _ in range(2))
    first.wait_ready()
    second.wait_ready()
    wanted = driven_here(Engine(remembering, device="cpu"), ticks)
    with relaying(first.url) as relay, PolicyClient(relay.url) as client, ThinClient(relay.url, 20_000.0) as thin:
        episode, driven, thinly = client.start_episode(), [], []
        thin.start_episode()
        for number, tick in enumerate(ticks):
            if number == 8:
                relay.target = second.url
            if number % 3 == 0:
                relay.drop()  # the next connection comes to either worker
            driven.append(episode.act(tick).vehicle_control())
            thinly.append(thin.act(tick))
            assert thin.fell_back is None
        with pytest.raises(SpecError, match="this policy has a memory, which only an episode keeps"):
            client.act([ticks[0]])
    assert driven == thinly == wanted
    assert (episode.restarts.total(), thin.restarts) == (0, {})


def test_a_memory_of_another_key_begins_anew_at_once(
    start_server: Start, tmp_path: Path, remembering: Artifact, monkeypatch: pytest.MonkeyPatch
):
    folder, ticks = str(put(tmp_path, remembering)), seen(6)
    servers = []
    for key in ("one secret of a fleet", "and another one's"):
        monkeypatch.setenv("POLICY_STATE_KEY", key)
        servers.append(start_server("--model", folder))
    for server in servers:
        server.wait_ready()
    engine = Engine(remembering, device="cpu")
    with relaying(servers[0].url) as relay, PolicyClient(relay.url) as client, ThinClient(relay.url, 20_000.0) as thin:
        episode = client.start_episode()
        before = [(episode.act(tick).vehicle_control(), thin.act(tick)) for tick in ticks[:3]]
        relay.target = servers[1].url
        relay.drop()
        after = [(episode.act(tick).vehicle_control(), thin.act(tick)) for tick in ticks[3:]]
        assert before == [(each, each) for each in driven_here(engine, ticks[:3])]
        assert after == [(each, each) for each in driven_here(engine, ticks[3:])]
        assert dict(episode.restarts) == thin.restarts == {"state_of_another_key": 1}
        assert thin.fell_back is None


def test_a_token_that_was_damaged_on_its_way_begins_the_episode_anew(
    start_server: Start, tmp_path: Path, remembering: Artifact
):
    server = start_server("--model", str(put(tmp_path, remembering)))
    server.wait_ready()
    ticks, digest = seen(4), bytes.fromhex(remembering.digest.removeprefix("sha256:"))
    with relaying(server.url) as relay, PolicyClient(relay.url) as client, ThinClient(relay.url, 20_000.0) as thin:
        episode = client.start_episode()
        relay.replaced = (digest + b"\x01\0\0\0", digest + b"\x07\0\0\0")  # another step
        driven = [(episode.act(ticks[0]).vehicle_control(), thin.act(ticks[0]))]
        relay.replaced = (b"", b"")
        driven += [(episode.act(tick).vehicle_control(), thin.act(tick)) for tick in ticks[1:]]
    engine = Engine(remembering, device="cpu")
    wanted = driven_here(engine, ticks[:1]) + driven_here(engine, ticks[1:])
    assert driven == [(each, each) for each in wanted]
    assert dict(episode.restarts) == thin.restarts == {"state_refused": 1}


def test_a_fleet_with_two_keys_is_an_error_and_not_a_policy_without_memory(
    start_server: Start, tmp_path: Path, remembering: Artifact, monkeypatch: pytest.MonkeyPatch
):
    folder, servers = str(put(tmp_path, remembering)), []
    for key in ("one secret of a fleet", "and another one's"):
        monkeypatch.setenv("POLICY_STATE_KEY", key)
        servers.append(start_server("--model", folder))
    for server in servers:
        server.wait_ready()
    told, thinly = [], []
    with relaying(servers[0].url) as relay, PolicyClient(relay.url) as client, ThinClient(relay.url, 20_000.0) as thin:
        episode = client.start_episode()
        for number, tick in enumerate(seen(9)):
            relay.target = servers[number % 2].url
            relay.drop()
            try:
                episode.act(tick)
                told.append(None)
            except ServerError as error:
                told.append(error.code)
            thin.act(tick)
            thinly.append(thin.fell_back)
    assert told == [None] * 4 + ["state_of_another_key", None] * 2 + ["state_of_another_key"]
    assert thinly == [None] * 4 + ["refused", None] * 2 + ["refused"]
