"""Episodes of policies with a memory: the state of each answer goes with the next question."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from remembering_export import exported_lstm

from carla_mlflow import Engine, ServerError
from carla_mlflow.contract.episode_core import BEGINS_ANEW, MAX_IN_VAIN, Answer, EpisodeCore, Question


@pytest.fixture(scope="module")
def engine() -> Engine:
    return exported_lstm().engine


def observations(count: int) -> list[dict[str, Any]]:
    rng = np.random.default_rng(3)
    return [{"speed": rng.uniform(0, 60), "beams": rng.uniform(0, 1, 12).astype(np.float32)} for _ in range(count)]


def rolled_out(engine: Engine, ticks: list[dict[str, Any]]) -> list[bytes]:
    """The actions of one episode, its state carried by hand."""
    state, raw = None, []
    for tick in ticks:
        batch = {"speed": np.float32([tick["speed"]]), "beams": tick["beams"][None]}
        actions = engine.act(batch, state=state)
        state = actions.state
        raw.append(actions.raw.tobytes())
    return raw


def test_the_state_goes_from_tick_to_tick_and_episodes_share_nothing(engine: Engine):
    ticks = observations(20)
    one, other = engine.start_episode(), engine.start_episode()
    driven, beside = [], []
    for tick, reverse in zip(ticks, reversed(ticks), strict=True):
        driven.append(one.act(tick).raw.tobytes())
        beside.append(other.act(reverse).raw.tobytes())
    assert driven == rolled_out(engine, ticks)
    assert beside == rolled_out(engine, ticks[::-1])
    assert len(set(driven)) == 20


def test_a_late_answer_leaves_the_state_of_the_last_one_that_came(engine: Engine):
    ticks = observations(6)
    episode = engine.start_episode()
    driven = [episode.act(tick).raw.tobytes() for tick in ticks[:3]]
    assert episode.act(ticks[3], budget_ms=0).fallback
    driven += [episode.act(tick).raw.tobytes() for tick in ticks[4:]]
    assert driven == rolled_out(engine, ticks[:3] + ticks[4:])  # as if that tick had not been


def test_a_sample_with_a_seed_follows_the_state_too(engine: Engine):
    ticks = observations(3)
    sampled = []
    for _ in range(2):
        episode = engine.start_episode()
        sampled.append([episode.act(tick, deterministic=False, seed=7).raw.tobytes() for tick in [ticks[0], *ticks]])
    assert sampled[0] == sampled[1]
    assert sampled[0][0] != sampled[0][1]  # the same observation and seed, in another state


@pytest.mark.parametrize("code", [code for code in BEGINS_ANEW if code.startswith("state")])
def test_a_state_that_no_server_takes_any_more_begins_the_episode_anew(engine: Engine, code: str):
    core = EpisodeCore(engine.card)
    first, *others = observations(2)
    question = core.tick(first)
    assert isinstance(question, Question)
    assert (question.state, question.digest) == (None, None)
    core.answered(Answer(engine.act(question.arrays), b"token", "sha256:one"))
    question = core.tick(others[0])
    assert isinstance(question, Question)
    assert (question.state, question.digest) == (b"token", None)  # the token says which version it is of
    again = core.begin_anew(question, ServerError("gone", code))
    assert (again.state, again.digest) == (None, None)
    assert again.arrays is question.arrays
    assert dict(core.restarts) == {code: 1}


def asked(core: EpisodeCore, tick: dict[str, Any]) -> Question:
    question = core.tick(tick)
    assert isinstance(question, Question)
    return question


def test_an_episode_that_begins_anew_without_a_step_in_between_is_an_error_and_goes_on_trying(
    engine: Engine, caplog: pytest.LogCaptureFixture
):
    core, tick = EpisodeCore(engine.card), observations(1)[0]
    gone = ServerError("another key", "state_of_another_key")
    answer = Answer(engine.act(asked(core, tick).arrays), b"token", "sha256:one")
    core.answered(answer)
    for _ in range(MAX_IN_VAIN):
        core.begin_anew(asked(core, tick), gone)
        core.answered(answer)
    for _ in range(2):
        with pytest.raises(ServerError, match="another key"):
            core.begin_anew(asked(core, tick), gone)
        assert asked(core, tick).state is None  # the next tick begins anew
        core.answered(answer)
    assert dict(core.restarts) == {"state_of_another_key": MAX_IN_VAIN + 2}
    assert sum("again and again" in record.message for record in caplog.records) == 1
    assert asked(core, tick).state == b"token"
    core.answered(answer)  # it went on by a step
    assert core.begin_anew(asked(core, tick), gone).state is None


def test_a_state_that_is_refused_as_damaged_begins_the_episode_anew(engine: Engine):
    core, tick = EpisodeCore(engine.card), observations(1)[0]
    core.answered(Answer(engine.act(asked(core, tick).arrays), b"token", "sha256:one"))
    question = asked(core, tick)
    with pytest.raises(ServerError, match="too fast"):
        core.begin_anew(question, ServerError("too fast", "invalid_observation", "observations[0].speed"))
    again = core.begin_anew(question, ServerError("damaged", "invalid_observation", "observations[0].state"))
    assert again.state is None
    assert dict(core.restarts) == {"state_refused": 1}
