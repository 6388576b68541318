"""When a worker begins to serve a promoted version, and what it holds and gives up, step by step."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.policies.two_policies import small_policy, write
from carla_mlflow import Artifact, open_artifact
from serve.following import worker_side
from serve.following.worker_side import Following
from serve.policy.slot import Slot
from serve.run_folder import Followed, Holdable, Refused, Status, WorkerState, worker_file, write_file
from serve.settings import Settings

pytestmark = pytest.mark.xdist_group("holds")
OTHER_WORKER = 1
"""A process id that no worker of ours has."""


@pytest.fixture(scope="module")
def artifacts(tmp_path_factory: pytest.TempPathFactory) -> list[Artifact]:
    folder = tmp_path_factory.mktemp("policies")
    return [open_artifact(write(small_policy(f"1.{n}.0", n), folder)) for n in range(3)]


class Worker:
    """One worker whose follower is this test."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch, **settings: float) -> None:
        monkeypatch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
        self.folder, self.file = folder, folder / "follow.json"
        self.slot = Slot(folder, ("mine@production",))
        self.following = Following(self.slot, Settings(model="mine@production", **settings), self.file)

    def follow(self, artifact: Artifact, *holdable: Artifact, refused: tuple[Refused, ...] = ()) -> None:
        """What the follower finds."""
        line = tuple(Holdable(each.card.version, each.digest) for each in holdable)
        wanted = refused[0].digest if refused else artifact.digest
        status = Status(str(artifact.path), artifact.digest, artifact.card.version, wanted=wanted, holdable=line)
        write_file(self.file, Followed((status,), refused=refused))
        self.step()

    def step(self) -> None:
        """Steps until nothing is loading."""
        self.following.step()
        while self.following._loads:
            for load in self.following._loads.values():
                load._thread.join()
            self.following.step()

    @property
    def serves(self) -> str | None:
        return self.slot.serving.version if self.slot.serving else None

    @property
    def holds(self) -> list[str]:
        return [each.serving.version for each in self.slot.held[0]]


def other_has(folder: Path, *digests: str) -> None:
    """What another worker of the server has loaded."""
    write_file(worker_file(folder, OTHER_WORKER), WorkerState(coming=digests, ready=True))


def waiting(folder: Path, monkeypatch: pytest.MonkeyPatch, one: Artifact, two: Artifact) -> Worker:
    """A worker that serves `one`, and has loaded `two`, which the other worker does not have yet."""
    monkeypatch.setattr(worker_side, "TOGETHER_S", 600.0)  # else it would go on alone while this machine is busy
    worker = Worker(folder, monkeypatch)
    worker.follow(one)
    other_has(folder, one.digest)
    worker.follow(two, one)
    return worker


def test_a_promoted_version_becomes_active_once_the_other_worker_has_it_and_answers_its_episodes_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, artifacts
):
    one, two, _ = artifacts
    worker = waiting(tmp_path, monkeypatch, one, two)
    for _ in range(3):
        worker.step()
    assert (worker.serves, worker.holds) == ("1.0.0", [])
    assert worker.slot.of_episode(two.digest, None) is worker.slot.coming[0]
    other_has(tmp_path, one.digest, two.digest)
    worker.step()
    assert (worker.serves, worker.holds, worker.slot.coming) == ("1.1.0", ["1.0.0"], (None,))


def test_a_rollback_waits_for_no_other_worker_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, artifacts
):
    one, two, _ = artifacts
    worker = Worker(tmp_path, monkeypatch)
    worker.follow(two)
    other_has(tmp_path, two.digest)
    worker.follow(one)
    assert (worker.serves, worker.holds) == ("1.0.0", [])


def test_a_version_that_was_coming_and_is_wanted_no_more_is_dropped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, artifacts
):
    one, two, _ = artifacts
    worker = waiting(tmp_path, monkeypatch, one, two)
    worker.follow(one)
    assert (worker.serves, worker.slot.coming, len(worker.slot.every)) == ("1.0.0", (None,), 1)


def test_a_version_that_was_coming_when_a_newer_one_is_wanted_is_held_for_what_other_workers_began(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, artifacts
):
    one, two, three = artifacts
    worker = waiting(tmp_path, monkeypatch, one, two)
    assert worker.slot.coming[0] is not None
    worker.follow(three, two, one)
    assert (worker.serves, worker.holds) == ("1.0.0", ["1.1.0"])
    other_has(tmp_path, one.digest, two.digest, three.digest)
    worker.step()
    assert (worker.serves, worker.holds) == ("1.2.0", ["1.0.0", "1.1.0"])
    assert worker.slot.of_episode(two.digest, None) is not None


def test_what_the_follower_lists_no_more_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, artifacts):
    one, two, three = artifacts
    worker = Worker(tmp_path, monkeypatch)
    worker.follow(one)
    worker.follow(two, one)
    worker.follow(three, two, one)
    assert worker.holds == ["1.1.0", "1.0.0"]
    worker.follow(three, one)
    assert worker.holds == ["1.0.0"]


def test_where_a_wanted_version_lacks_memory_nothing_is_held(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, artifacts
):
    one, two, three = artifacts
    worker = Worker(tmp_path, monkeypatch)
    worker.follow(one)
    worker.follow(two, one)
    assert worker.holds == ["1.0.0"]
    worker.follow(two, one, refused=(Refused("1.2.0", three.digest, "too large", "memory", 0.0),))
    assert (worker.serves, worker.holds) == ("1.1.0", [])
