"""A policy that is run again on recorded rows: its memory, its samples, and rows that it does not answer."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pytest
from made_recordings import driven, table_of
from tests_support import EXAMPLE

from benchmarks.policies.two_policies import small_policy
from carla_mlflow import Artifact, Engine, open_artifact
from carla_mlflow.artifact.artifact import seal
from serve.replay import rerun
from serve.replay.rerun import NO_EPISODE, NO_START, REFUSES, Rerun
from serve.replay.rows import Rows


@pytest.fixture(scope="module")
def lstm(remembering: Artifact) -> Engine:
    return Engine(remembering, "cpu")


def rows_of(engine: Engine, table: pa.Table) -> Rows:
    [batch] = table.combine_chunks().to_batches()
    return Rows.of(batch, engine.card)


def same(rows: Rows, control: np.ndarray) -> bool:
    return rows.action.tobytes() == control.tobytes()


def without_states(table: pa.Table) -> pa.Table:
    rows = [row | dict.fromkeys([name for name in row if name.startswith("state.")]) for row in table.to_pylist()]
    return pa.Table.from_pylist(rows, table.schema)


def test_a_step_that_was_sent_again_starts_from_the_same_state_again(lstm: Engine):
    table = without_states(driven(lstm, ["a"], steps=12))
    again = pa.concat_tables([table.slice(0, 6), table.slice(5, 1), table.slice(5, 1), table.slice(6)])
    answers = Rerun(lstm).act(rows_of(lstm, again))
    assert answers.known.all()
    assert same(rows_of(lstm, again), answers.control)


def test_batches_of_any_size_give_the_same_bits(lstm: Engine):
    table, whole = driven(lstm, ["a", "b", "c"], steps=20), Rerun(lstm, from_start=True)
    parts = [whole.act(rows_of(lstm, table.slice(start, 7))) for start in range(0, 60, 7)]
    assert same(rows_of(lstm, table), np.concatenate([part.control for part in parts]))


def test_rows_of_a_request_are_episodes_of_their_own(lstm: Engine):
    table = driven(lstm, ["one", "two"], steps=10)
    rows = [row | {"episode_id": "both", "row": place % 2} for place, row in enumerate(table.to_pylist())]
    together = table_of(lstm.card, rows)
    answers = Rerun(lstm, from_start=True).act(rows_of(lstm, together))
    assert same(rows_of(lstm, together), answers.control)


def test_a_lost_step_ends_what_is_known_until_the_next_state(lstm: Engine):
    table = driven(lstm, ["a"], steps=14)  # with the state at step 10
    lost = pa.concat_tables([table.slice(0, 4), table.slice(5)])
    answers = Rerun(lstm).act(rows_of(lstm, lost))
    assert answers.known.tolist() == [True] * 4 + [False] * 5 + [True] * 4
    assert answers.reasons == {NO_START: 5}
    assert np.isnan(answers.control[4:9]).all()
    other = Rerun(lstm, from_start=True).act(rows_of(lstm, lost))
    assert other.reasons == {NO_START: 9}


def test_where_each_worker_counts_the_steps_nothing_is_taken_for_an_episodes_start(lstm: Engine):
    table = driven(lstm, ["a"], steps=8)  # as a policy without memory is recorded, by two workers
    counted = [row | {"reset": None, "frame_index": step % 4} for step, row in enumerate(table.to_pylist())]
    answers = Rerun(lstm, from_start=True).act(rows_of(lstm, without_states(table_of(lstm.card, counted))))
    assert answers.reasons == {NO_START: 8}


def test_rows_of_no_episode_need_their_own_state(lstm: Engine):
    rows = rows_of(lstm, driven(lstm, [None, None], steps=5))
    assert Rerun(lstm).act(rows).known.all()
    assert Rerun(lstm, from_start=True).act(rows).reasons == {NO_EPISODE: 8}


def test_episodes_that_were_quiet_longest_are_forgotten_first(lstm: Engine, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(rerun, "MAX_EPISODES", 2)
    replayed = Rerun(lstm, from_start=True)
    begun = driven(lstm, ["a", "b", "c"], steps=2)
    replayed.act(rows_of(lstm, begun.slice(0, 3)))
    assert replayed.act(rows_of(lstm, begun.slice(3))).known.tolist() == [False, True, True]


def test_a_policy_without_a_distribution_is_asked_for_its_mode(lstm: Engine):
    engine = Engine(small_policy("1.0.0", 1), "cpu")
    table = driven(engine, steps=5)
    asked = [row | {"seed": 7, "deterministic": False} for row in table.to_pylist()]
    rows = rows_of(engine, table_of(engine.card, asked))
    assert same(rows, Rerun(engine).act(rows).control)


def narrower(top: float) -> Engine:
    """The example, which now observes only speeds up to `top`."""
    artifact = open_artifact(EXAMPLE)
    speed = msgspec.structs.replace(artifact.card.observation["speed"], high=top)
    golden = artifact.files[artifact.card.parity.file]
    card = msgspec.structs.replace(artifact.card, observation={**artifact.card.observation, "speed": speed})
    files: dict[str, Any] = {name: artifact.files[name] for name in card.files}
    return Engine(seal(card, files | {card.parity.file: golden}), "cpu")


def test_a_row_that_another_version_refuses_costs_no_other_row_its_answer():
    engine = Engine.open(EXAMPLE, device="cpu")
    rows = rows_of(engine, driven(engine, steps=30))
    assert rows.observations is not None
    top = float(engine.golden.observations["speed"].max())
    speed = np.minimum(rows.observations["speed"], np.float32(top))
    speed[[3, 40]] = top + 1.0
    rows.observations["speed"] = speed
    answers = Rerun(narrower(top), from_start=True).act(rows)
    assert np.flatnonzero(~answers.known).tolist() == [3, 40]
    assert answers.reasons == {REFUSES: 2}
