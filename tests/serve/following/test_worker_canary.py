"""When a worker loads a canary, lets episodes begin with it, and gives it up, step by step."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.policies.two_policies import small_policy, write
from carla_mlflow import Artifact, open_artifact
from serve.following import canary_side
from serve.following.worker_side import Following
from serve.policy.slot import Slot
from serve.run_folder import Followed, Holdable, Status, WorkerState, read_file, worker_file, write_file
from serve.settings import Settings

pytestmark = pytest.mark.xdist_group("holds")
OTHER_WORKER = 1
"""A process id that no worker of ours has."""


@pytest.fixture(scope="module")
def artifacts(tmp_path_factory: pytest.TempPathFactory) -> list[Artifact]:
    folder = tmp_path_factory.mktemp("policies")
    made = [small_policy(f"1.{n}.0", n) for n in range(3)] + [small_policy("2.0.0", 3, rate_hz=10.0)]
    return [open_artifact(write(each, folder)) for each in made]


def status(artifact: Artifact, *holdable: Artifact) -> Status:
    line = tuple(Holdable(each.card.version, each.digest) for each in holdable)
    digest = artifact.digest
    return Status(str(artifact.path), digest, artifact.card.version, wanted=digest, holdable=line)


class Worker:
    """One worker whose follower is this test."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
        self.folder, self.file = folder, folder / "follow.json"
        self.slot = Slot(folder, ("mine@production",))
        self.following = Following(self.slot, Settings(model="mine@production", canary=True), self.file)

    def follow(self, production: Status, canary: Status, share: float = 0.0) -> None:
        """What the follower finds."""
        write_file(self.file, Followed((production,), canary=canary, canary_share=share))
        self.step()

    def step(self) -> None:
        """Steps until nothing is loading, and once more, as a worker reads what it has published."""
        self.following.step()
        while self.following._loads:
            for load in self.following._loads.values():
                load._thread.join()
            self.following.step()
        self.following.step()

    @property
    def answers(self) -> tuple[str | None, str | None, float]:
        """The active version, the canary with which episodes begin, and its share."""
        active, canary = self.slot.serving, self.slot.beginning
        share = canary.share if canary else 0.0
        return active.version if active else None, canary.serving.version if canary else None, share

    def knows(self, artifact: Artifact) -> bool:
        return self.slot.of_episode(artifact.digest, None) is not None


@pytest.fixture
def worker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Worker:
    return Worker(tmp_path, monkeypatch)


def test_a_canary_is_loaded_beside_production_and_gets_its_share(worker: Worker, artifacts: list[Artifact]):
    one, two, _, _ = artifacts
    worker.follow(status(one), Status())
    assert worker.answers == ("1.0.0", None, 0.0)
    worker.follow(status(one), status(two), 5.0)
    assert worker.answers == ("1.0.0", "1.1.0", 5.0)
    worker.follow(status(one), status(two), 50.0)
    assert worker.answers == ("1.0.0", "1.1.0", 50.0)


def test_no_episode_begins_with_a_canary_before_the_other_worker_has_it(
    worker: Worker, artifacts: list[Artifact], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(canary_side, "TOGETHER_S", 600.0)
    one, two, _, _ = artifacts
    worker.follow(status(one), Status())
    other = worker_file(worker.folder, OTHER_WORKER)
    write_file(other, WorkerState(ready=True))
    worker.follow(status(one), status(two), 5.0)
    worker.step()
    assert (worker.answers, worker.knows(two)) == (("1.0.0", None, 0.0), True)
    write_file(other, WorkerState(coming=(two.digest,), ready=True))
    worker.step()
    assert worker.answers == ("1.0.0", "1.1.0", 5.0)


def test_a_canary_that_ends_is_left_at_once_and_not_held(worker: Worker, artifacts: list[Artifact]):
    one, two, _, _ = artifacts
    worker.follow(status(one), status(two), 5.0)
    worker.follow(status(one), Status())
    assert (worker.answers, worker.knows(two), len(worker.slot.every)) == (("1.0.0", None, 0.0), False, 1)


def test_a_canary_in_whose_place_another_comes_is_held_if_the_follower_lets_it(
    worker: Worker, artifacts: list[Artifact]
):
    one, two, three, _ = artifacts
    worker.follow(status(one), status(two), 5.0)
    worker.follow(status(one), status(three, two), 5.0)
    assert (worker.answers, worker.knows(two)) == (("1.0.0", "1.2.0", 5.0), True)
    worker.follow(status(one), status(three), 5.0)
    assert not worker.knows(two)


def test_a_canary_whose_successor_is_not_here_yet_gets_no_new_episode(worker: Worker, artifacts: list[Artifact]):
    one, two, three, _ = artifacts
    worker.follow(status(one), status(two), 50.0)
    line = status(three, two).holdable
    worker.follow(status(one), Status(version="1.2.0", wanted=three.digest, holdable=line), 50.0)
    assert (worker.answers, worker.knows(two)) == (("1.0.0", None, 0.0), True)


def test_a_canary_that_goes_to_production_goes_on_without_being_loaded_again(worker: Worker, artifacts: list[Artifact]):
    one, two, _, _ = artifacts
    worker.follow(status(one), status(two), 5.0)
    assert worker.slot.canary is not None
    engine = worker.slot.canary.serving.engine
    worker.follow(status(two, one), Status())
    assert (worker.answers, worker.knows(one)) == (("1.1.0", None, 0.0), True)
    assert worker.slot.serving is not None
    assert worker.slot.serving.engine is engine


def test_a_canary_with_another_contract_is_refused_and_production_goes_on(worker: Worker, artifacts: list[Artifact]):
    one, _, _, other = artifacts
    worker.follow(status(one), status(other), 5.0)
    assert worker.answers == ("1.0.0", None, 0.0)
    [state] = [read_file(path, WorkerState) for path in worker.folder.glob("worker-*.json")]
    assert state is not None
    [refused] = state.refused
    assert (refused.version, refused.kind, state.ready) == ("2.0.0", "contract", True)
    assert "same cars" in refused.reason
