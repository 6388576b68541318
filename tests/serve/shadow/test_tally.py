"""What the shadow adds up: a replay's numbers of the same rows, and the same after another process went on with it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec
import numpy as np
import pytest
from ring_rows import Worker

from carla_mlflow import Artifact, Engine
from serve.replay.compare import Figures
from serve.replay.drove import Drove
from serve.replay.rerun import Rerun
from serve.replay.rows import Rows
from serve.replay.session import Session
from serve.shadow.disagreement import disagreements
from serve.shadow.feed import Feed
from serve.shadow.tally import SavedTally, Tally
from serve.telemetry.shadow_report import DIFFERENCES

BATCHES, ROWS = 12, 40


@pytest.fixture
def batches(tmp_path: Path, champion: Artifact, champions: Engine) -> list[tuple[Rows, object]]:
    """Rows as they come out of a ring, and the Arrow batches that they are made of."""
    worker, feed, found = Worker(tmp_path, champion, champions), Feed(tmp_path, 1.0, {}), []
    rng = np.random.default_rng(5)
    for number in range(BATCHES):
        observed = {spec.name: spec.sample(rng, ROWS) for spec in champions.specs}
        worker.answers(observed, [number + row / ROWS for row in range(ROWS)])
        found += [(Rows.of(batch, champion.card), batch) for _, batch in feed.read(in_order=False)]
    return found


def added(tally: Tally, champion: Artifact, others: Engine, every: Iterator[Rows] | list[Rows]) -> Tally:
    rerun = Rerun(others, from_start=True)
    for rows in every:
        tally.add(tally.pair(champion.card, champion.digest), champion.card, rows, rerun.act(rows))
    return tally


def figures(tally: Tally, champion: Artifact) -> Figures:
    return tally.pairs[champion.digest].comparison.figures()


def test_its_figures_are_those_of_a_replay_of_the_same_rows(batches, champion: Artifact, champions: Engine, others):
    tally = added(Tally(SavedTally("x")), champion, others, [rows for rows, _ in batches])
    replay = Session({champion.digest: champion.card}, lambda _: (champions, ""), lambda _: Drove(None), others)
    for _, batch in batches:
        replay.add(batch)
    found = replay.result("recordings", 0, asked_journal=False).compared
    assert found == figures(tally, champion)
    assert found.rows == BATCHES * ROWS
    assert tally.beside()[0].figures == msgspec.to_builtins(found)


def test_its_histograms_count_the_same_differences_by_their_own_bounds(batches, champion: Artifact, others: Engine):
    tally = added(Tally(SavedTally("x")), champion, others, [rows for rows, _ in batches])
    theirs = np.concatenate([others.act(rows.observations).control for rows, _ in batches])
    mine = np.concatenate([rows.action for rows, _ in batches])
    apart = np.abs(theirs[:, 2].astype(np.float64) - mine[:, 2])
    steer = tally.counts.differences["steer"]
    assert sum(steer.counts) == len(apart) == tally.counts.rows
    for place, bound in enumerate(DIFFERENCES):
        assert sum(steer.counts[: place + 1]) == int((apart <= bound).sum())
    assert steer.sum == pytest.approx(apart.sum())
    assert tally.counts.disagreements == int(disagreements(champion.card.action, mine, theirs).sum())


def test_another_process_goes_on_with_the_same_numbers(batches, champion: Artifact, others: Engine):
    every = [rows for rows, _ in batches]
    whole = added(Tally(SavedTally("x")), champion, others, every)
    first = added(Tally(SavedTally("x")), champion, others, every[:5])
    first.skip("episode_start", 3, first.pairs[champion.digest])
    first.pairs[champion.digest].run = "run1"
    saved = msgspec.json.decode(msgspec.json.encode(first.saved()), type=SavedTally)
    second = added(Tally(saved), champion, others, every[5:])
    pair = second.pairs[champion.digest]
    assert (pair.run, pair.skipped, second.skipped) == ("run1", 3, {"episode_start": 3})
    assert second.counts.rows == whole.counts.rows
    assert second.counts.disagreements == pair.disagreements == whole.counts.disagreements
    assert {k: v.counts for k, v in second.counts.differences.items()} == {
        k: v.counts for k, v in whole.counts.differences.items()
    }
    assert figures(second, champion) == figures(whole, champion)


def test_another_version_begins_at_0_but_what_was_skipped_stays(batches, champion: Artifact, others: Engine):
    tally = added(Tally(SavedTally("x")), champion, others, [rows for rows, _ in batches])
    tally.skip("overtaken", 4)
    tally.begin("sha256:another")
    assert (tally.digest, tally.counts.rows, tally.pairs) == ("sha256:another", 0, {})
    assert tally.skipped == {"overtaken": 4}
