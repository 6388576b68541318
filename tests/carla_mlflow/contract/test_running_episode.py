from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from episode_policies import REPEAT, frames, stacks, watching, written
from patience import PATIENCE_S
from tests_support import Server

from carla_mlflow import (
    Actions,
    AsyncPolicyClient,
    Card,
    Engine,
    PolicyClient,
    ResultCache,
    ServerError,
    SpecError,
    UnreachableError,
)
from carla_mlflow.contract.episode_core import Answer, EpisodeCore, Question
from carla_mlflow.contract.running_episode import AsyncEpisode, Episode, Request

TICKS = frames(9)


@pytest.fixture(scope="module")
def engine() -> Engine:
    return Engine(watching(), device="cpu")


def wanted(engine: Engine) -> list[bytes]:
    """The right action of every tick: each decision holds for REPEAT ticks."""
    decisions = [at - at % REPEAT for at in range(len(TICKS))]
    return [engine.act(stacks(TICKS, at)).control.tobytes() for at in decisions]


def test_an_episode_keeps_frames_and_actions_in_this_process(engine: Engine):
    for policy in (engine, ResultCache(engine, 8)):
        episode = policy.start_episode("route-7")
        assert (episode.id, episode.step, episode.digest, episode.is_due) == ("route-7", 0, None, True)
        assert [episode.act(tick).control.tobytes() for tick in TICKS] == wanted(engine)
        assert (episode.step, episode.digest, episode.is_due) == (len(TICKS), engine.digest, False)
        assert not episode.restarts


def test_an_episode_over_the_network_is_the_same_bit_for_bit(
    engine: Engine, start_server: Callable[..., Server], tmp_path: Path
):
    server = start_server("--model", str(written(tmp_path, watching())), "--workers", "2")
    server.wait_ready()
    with PolicyClient(server.url) as client:
        one, other = client.start_episode(), client.start_episode()
        driven = []
        for tick in TICKS:  # two at once, which share a client and nothing else
            driven.append(one.act(tick, budget_ms=10_000).control.tobytes())
            assert other.act(TICKS[0]).fallback is False
        assert driven == wanted(engine)
        assert (one.digest, one.step, one.restarts.total()) == (engine.digest, len(TICKS), 0)
        whole = client.act(stacks(TICKS, 4))  # a batch of whole stacks needs no episode
        assert whole.control.tobytes() == wanted(engine)[4]
        with pytest.raises(SpecError, match=r"to give it single ticks, use `episode = policy\.start_episode"):
            client.act({name: [value] for name, value in TICKS[0].items()})

    async def drive() -> list[list[bytes]]:
        async def one() -> list[bytes]:
            episode = client.start_episode()
            return [(await episode.act(tick)).control.tobytes() for tick in TICKS]

        async with AsyncPolicyClient(server.url) as client:
            return await asyncio.gather(*(one() for _ in range(4)))

    assert asyncio.run(drive()) == [wanted(engine)] * 4


def test_a_late_answer_is_the_fallback_and_the_next_tick_asks_again(engine: Engine):
    episode = engine.start_episode()
    late = episode.act(TICKS[0], budget_ms=0)
    assert late.fallback
    assert episode.is_due
    assert (episode.step, episode.digest) == (1, None)
    answered = episode.act(TICKS[1])
    assert answered.control.tobytes() == engine.act(stacks(TICKS, 1)).control.tobytes()  # the frame was seen
    assert episode.act(TICKS[2]) is answered


def test_a_tick_without_an_observation_takes_one_of_those_that_an_action_holds(engine: Engine):
    episode = engine.start_episode()
    episode.act(TICKS[0])
    assert not episode.is_due
    episode.skip()
    assert (episode.is_due, episode.step) == (True, 2)
    seen = [TICKS[0], TICKS[0], TICKS[1]]
    assert episode.act(TICKS[1]).control.tobytes() == engine.act(stacks(seen, 2)).control.tobytes()


@pytest.mark.parametrize("name", ["", "a b", "x" * 65, "route/7", 7])
def test_an_episode_with_another_name_is_not_started(engine: Engine, name: str):
    with pytest.raises(SpecError, match="episode_id: expected 1 to 64 characters"):
        engine.start_episode(name)


def actions(engine: Engine) -> Actions:
    return engine.act(stacks(TICKS, 0))


ANOTHER = ServerError("another version is served", "episode_of_another_version")


def test_the_first_answers_version_is_asked_for_until_it_is_gone(engine: Engine, caplog: pytest.LogCaptureFixture):
    core = EpisodeCore(engine.card)
    first = core.tick(TICKS[0])
    assert isinstance(first, Question)
    assert first.digest is None
    core.answered(Answer(actions(engine), None, "sha256:one"))
    core.tick(TICKS[1])
    second = core.tick(TICKS[2])
    assert isinstance(second, Question)
    assert second.digest == "sha256:one"
    again = core.begin_anew(second, ANOTHER)
    assert again.digest is None
    assert again.arrays["speed"].tobytes() == stacks(TICKS, 2)["speed"].tobytes()  # what was seen, was seen
    core.answered(Answer(actions(engine), None, "sha256:two"))
    assert (core.digest, dict(core.restarts)) == ("sha256:two", {"episode_of_another_version": 1})
    core.tick(TICKS[3])
    third = core.tick(TICKS[4])
    assert isinstance(third, Question)
    core.begin_anew(third, ANOTHER)
    assert dict(core.restarts) == {"episode_of_another_version": 2}
    assert len(caplog.records) == 1  # the second one is counted only


def test_an_answer_of_another_version_than_asked_for_is_counted(engine: Engine):
    core = EpisodeCore(engine.card)
    for digest in ("sha256:one", "sha256:two"):
        core.tick(TICKS[0])
        core.answered(Answer(actions(engine), None, digest))
        core.skip(None)
    assert dict(core.restarts) == {"episode_of_another_version": 1}


def test_another_refusal_or_one_at_the_beginning_is_the_callers(engine: Engine):
    core = EpisodeCore(engine.card)
    first = core.tick(TICKS[0])
    assert isinstance(first, Question)
    with pytest.raises(ServerError, match="another version is served"):
        core.begin_anew(first, ANOTHER)  # it named none
    core.answered(Answer(actions(engine), None, "sha256:one"))
    core.skip(None)
    later = core.tick(TICKS[0])
    assert isinstance(later, Question)
    with pytest.raises(ServerError, match="too many"):
        core.begin_anew(later, ServerError("too many", "overloaded"))
    assert (core.digest, core.restarts.total()) == ("sha256:one", 0)


def test_history_and_repeat_are_part_of_the_contract_and_of_format_2(engine: Engine):
    card = engine.card
    assert card.format == 2
    assert card.depended_on()["observation"]["view"]["history"] == [-3, -1, 0]
    assert card.depended_on()["action"]["repeat"] == REPEAT
    assert card.action.tick_hz == 20.0
    assert watching(repeat=1).card.contract != card.contract


def answered(engine: Engine, asked: Request) -> Answer:
    return Answer(engine.act(asked.question.arrays), None, engine.digest)


def test_a_second_call_during_the_first_is_refused_and_changes_nothing(engine: Engine):
    begun, may_end = threading.Event(), threading.Event()

    def ask(asked: Request) -> Answer:
        begun.set()
        assert may_end.wait(PATIENCE_S)
        return answered(engine, asked)

    episode = Episode(engine.card, ask)
    with ThreadPoolExecutor(1) as threads:
        first = threads.submit(episode.act, TICKS[0])
        assert begun.wait(PATIENCE_S)
        for call in (episode.act, episode.skip):
            with pytest.raises(SpecError, match="episode: another call is under way"):
                call(TICKS[1])
        may_end.set()
        assert first.result().control.tobytes() == wanted(engine)[0]
    assert episode.step == 1
    episode.act(TICKS[1])


def test_tasks_that_act_at_once_make_no_second_beginning(engine: Engine):
    async def ask(asked: Request) -> Answer:
        await asyncio.sleep(0)
        return answered(engine, asked)

    async def connect() -> Card:
        await asyncio.sleep(0)
        return engine.card

    async def both() -> tuple[int, list[object]]:
        episode = AsyncEpisode(connect, ask)
        told = await asyncio.gather(*(episode.act(tick) for tick in TICKS[:2]), return_exceptions=True)
        return episode.step, [type(each) for each in told]

    assert asyncio.run(both()) == (1, [Actions, SpecError])


def test_what_was_seen_before_a_client_could_connect_counts(engine: Engine):
    failures = [UnreachableError("no server"), UnreachableError("no server")]

    async def ask(asked: Request) -> Answer:
        return answered(engine, asked)

    async def connect() -> Card:
        if failures:
            raise failures.pop()
        return engine.card

    async def drive() -> tuple[bytes, int]:
        episode = AsyncEpisode(connect, ask)
        for tick in TICKS[:2]:
            with pytest.raises(UnreachableError):
                await episode.act(tick)
        return (await episode.act(TICKS[2])).control.tobytes(), episode.step

    assert asyncio.run(drive()) == (wanted(engine)[2], 3)
