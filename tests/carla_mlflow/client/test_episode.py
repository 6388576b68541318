"""Episodes over the network: the version that began one goes on with it, or it begins anew, and says so."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest
from episode_policies import frames, stacks, watching
from following_support import served, until
from tests_support import Server, own_cache

from carla_mlflow import Artifact, AsyncPolicyClient, Engine, PolicyClient, write_artifact

pytestmark = pytest.mark.xdist_group("following")
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


def put(folder: Path, artifact: Artifact) -> Path:
    return write_artifact(folder / f"v{artifact.card.version}", artifact).path


def started(start_server: Start, policies: Path, *flags: str) -> Server:
    server = start_server("--model", f"{policies}/@^1", "--poll-s", "0.2", "--fetch-timeout-s", "1", *flags)
    server.wait_ready()
    return server


def promote(server: Server, policies: Path, artifact: Artifact) -> None:
    put(policies, artifact)
    until(lambda: served(server) == {artifact.card.version}, server)


def wanted(artifact: Artifact, first: int, last: int) -> list[bytes]:
    """The right actions of the ticks from `first` to `last`; the history goes back to the episode's first tick."""
    engine = Engine(artifact, device="cpu")
    return [engine.act(stacks(TICKS, at)).control.tobytes() for at in range(first, last)]


def test_an_episode_ends_with_its_version_and_the_next_begins_with_the_new_one(
    start_server: Start, policies: Path, artifacts: list[Artifact]
):
    server = started(start_server, policies, "--workers", "2")
    old, new = artifacts
    with PolicyClient(server.url) as client:
        episode = client.start_episode()
        driven = [episode.act(tick).control.tobytes() for tick in TICKS[:4]]
        promote(server, policies, new)
        driven += [episode.act(tick).control.tobytes() for tick in TICKS[4:]]
        assert driven == wanted(old, 0, 12)
        assert (episode.digest, episode.restarts.total(), client.version) == (old.digest, 0, "1.0.0")
        assert client.card.version == "1.0.0"
        next_one = client.start_episode()
        assert next_one.act(TICKS[0]).control.tobytes() == wanted(new, 0, 1)[0]
        assert (next_one.digest, client.card.version) == (new.digest, "1.1.0")


def test_an_episode_of_a_version_that_is_gone_begins_anew_at_once_with_what_it_saw(
    start_server: Start, policies: Path, artifacts: list[Artifact], caplog: pytest.LogCaptureFixture
):
    server = started(start_server, policies, "--episode-hold-s", "0")
    old, new = artifacts

    async def drive() -> tuple[list[bytes], dict[str, int]]:
        async with AsyncPolicyClient(server.url) as client:
            beside = client.start_episode()
            driven = [(await beside.act(tick)).control.tobytes() for tick in TICKS[:4]]
            await asyncio.to_thread(promote, server, policies, new)
            driven += [(await beside.act(tick)).control.tobytes() for tick in TICKS[4:]]
            return driven, dict(beside.restarts)

    driven, restarts = asyncio.run(drive())
    assert driven == wanted(old, 0, 4) + wanted(new, 4, 12)
    assert restarts == {"episode_of_another_version": 1}
    assert [each.message for each in caplog.records if each.name == "carla_mlflow"] == [
        "an episode begins anew, and further ones of its kind are counted only: episode_of_another_version"
    ]
