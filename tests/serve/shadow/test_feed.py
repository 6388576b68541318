"""What the shadow reads from the workers' rings, and what it counts as lost."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from ring_rows import Worker

from carla_mlflow import Artifact, Engine
from serve.record.schema import in_share
from serve.shadow.feed import Feed
from serve.shadow.reasons import OVERTAKEN, RESTART

ROWS = 8


def observed(engine: Engine, rows: int = ROWS, seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {spec.name: spec.sample(rng, rows) for spec in engine.specs}


@pytest.fixture
def worker(tmp_path: Path, champion: Artifact, champions: Engine) -> Worker:
    return Worker(tmp_path, champion, champions)


def read(feed: Feed, in_order: bool = False) -> list[str]:
    """The ids of the requests that come."""
    return [name for _, batch in feed.read(in_order) for name in batch.column("request_id").to_pylist()]


def test_every_row_comes_once_also_of_a_worker_that_comes_later(
    tmp_path: Path, worker: Worker, champion: Artifact, champions: Engine
):
    feed = Feed(tmp_path, 1.0, {})
    actions = worker.answers(observed(champions), range(ROWS))
    [(digest, batch)] = feed.read(in_order=False)
    assert f"sha256:{digest}" == champion.digest
    assert feed.card_of(digest) == champion.card
    assert np.array(batch.column("action").to_pylist(), np.float32).tobytes() == actions.tobytes()
    assert read(feed) == []
    second = Worker(tmp_path, champion, champions)
    second.answers(observed(champions), range(ROWS))
    worker.answers(observed(champions), range(ROWS))
    assert len(set(read(feed))) == 2 * ROWS
    assert feed.take_lost().total() == 0


def test_another_process_goes_on_where_the_last_one_was(tmp_path: Path, worker: Worker, champions: Engine):
    first = Feed(tmp_path, 1.0, {})
    worker.answers(observed(champions), range(ROWS))
    before = read(first)
    worker.answers(observed(champions), range(ROWS))
    after = read(Feed(tmp_path, 1.0, first.positions))
    assert len(before) == len(after) == ROWS
    assert not set(before) & set(after)


def test_after_a_process_that_was_killed_what_is_there_is_passed_over_and_counted(
    tmp_path: Path, worker: Worker, champion: Artifact, champions: Engine
):
    first = Feed(tmp_path, 1.0, {})
    worker.answers(observed(champions), range(ROWS))
    read(first)
    worker.answers(observed(champions), range(ROWS))
    Worker(tmp_path, champion, champions).answers(observed(champions, 3), range(3))
    feed = Feed(tmp_path, 1.0, first.positions, only_new=True)
    assert read(feed) == []
    assert feed.take_lost() == Counter({RESTART: ROWS + 3})
    worker.answers(observed(champions), range(ROWS))
    assert len(read(feed)) == ROWS


def test_rows_that_were_overwritten_are_counted_to_the_row(tmp_path: Path, champion: Artifact, champions: Engine):
    worker = Worker(tmp_path, champion, champions, capacity=1 << 20)
    feed = Feed(tmp_path, 1.0, {})
    blocks = 2000
    for _ in range(blocks):
        worker.answers(observed(champions), range(ROWS))
    names = []
    while came := read(feed):
        names += came
    lost = feed.take_lost()[OVERTAKEN]
    assert lost > 0
    assert len(names) + lost == blocks * ROWS


def test_a_ring_that_was_closed_and_read_to_its_end_is_not_read_again(
    tmp_path: Path, worker: Worker, champions: Engine
):
    feed = Feed(tmp_path, 1.0, {})
    worker.answers(observed(champions), range(ROWS))
    worker.ring.close()
    assert len(read(feed)) == ROWS
    assert read(feed) == []
    assert read(Feed(tmp_path, 1.0, feed.positions)) == []
    worker.ring.path.unlink()
    assert read(feed) == []
    assert feed.positions == {}
    assert feed.take_lost().total() == 0


def test_where_it_goes_on_is_known_before_it_has_read(tmp_path: Path, worker: Worker, champions: Engine):
    first = Feed(tmp_path, 1.0, {})
    worker.answers(observed(champions), range(ROWS))
    read(first)
    second = Feed(tmp_path, 1.0, first.positions)
    assert second.positions == first.positions == {worker.ring.path.stem: ROWS}
    worker.ring.path.unlink()
    second.free_ended()
    assert second.positions == {}


@pytest.mark.parametrize("frees", [True, False])
def test_rings_of_workers_that_ended_are_given_up_while_nobody_reads_and_their_rows_counted(
    frees: bool, tmp_path: Path, worker: Worker, champion: Artifact, champions: Engine
):
    feed = Feed(tmp_path, 1.0, {}, frees=frees)
    second = Worker(tmp_path, champion, champions)
    for each in (worker, second):
        each.answers(observed(champions), range(ROWS))
    worker.ring.close()
    for _ in range(2):
        feed.free_ended()
    assert feed.take_lost() == Counter({OVERTAKEN: ROWS})
    assert (worker.ring.path.exists(), second.ring.path.exists()) == (not frees, True)
    after = Feed(tmp_path, 1.0, feed.positions)
    assert len(read(feed)) == len(read(after)) == ROWS  # of the one that lives
    assert (feed.take_lost(), after.take_lost()) == (Counter(), Counter())


def test_whole_episodes_belong_to_the_share_and_single_requests_by_their_id(
    tmp_path: Path, worker: Worker, champions: Engine
):
    feed = Feed(tmp_path, 0.3, {})
    episodes = [f"episode-{number % 40}" for number in range(200)]
    worker.answers(observed(champions, 200), range(200), episodes)
    worker.answers(observed(champions, 200), range(200))
    found = [
        row for _, batch in feed.read(in_order=False) for row in batch.select(["episode_id", "request_id"]).to_pylist()
    ]
    assert all(in_share(row["episode_id"], row["request_id"], 0.3) for row in found)
    seen = Counter(row["episode_id"] for row in found if row["episode_id"])
    assert set(seen.values()) == {5}
    assert 0 < len(seen) < 40
    assert 20 < sum(row["episode_id"] is None for row in found) < 100


def test_an_episode_that_went_from_one_worker_to_another_comes_in_order(
    tmp_path: Path, worker: Worker, champion: Artifact, champions: Engine
):
    second = Worker(tmp_path, champion, champions)
    second.answers(observed(champions, 2), [0.1, 0.3], ["e", "e"], [1, 3])
    worker.answers(observed(champions, 3), [0.0, 0.2, 0.4], ["e", "e", "e"], [0, 2, 4])
    [(_, batch)] = Feed(tmp_path, 1.0, {}).read(in_order=True)
    assert batch.column("frame_index").to_pylist() == [0, 1, 2, 3, 4]


def test_rows_of_the_last_second_are_held_back_where_their_order_matters(
    tmp_path: Path, worker: Worker, champions: Engine
):
    feed = Feed(tmp_path, 1.0, {})
    in_an_hour = 3600.0 * 24 * 365 * 100
    worker.answers(observed(champions, 2), [0.0, in_an_hour])
    assert len(read(feed, in_order=True)) == 1
    assert feed.rows_held == 1
    assert len(read(feed, in_order=False)) == 1
    assert feed.rows_held == 0
