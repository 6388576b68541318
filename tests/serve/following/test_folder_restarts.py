"""A folder of artifacts, poll by poll: what neither a restart nor a file PINS that is gone may change."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from following_support import again, out_of_parity, until_true
from tests_support import own_cache

from benchmarks.policies.two_policies import small_policy
from carla_mlflow import Artifact, write_artifact
from serve.following.follower import Follower
from serve.following.last_served import remember
from serve.run_folder import Followed, Status
from serve.settings import Settings


@pytest.fixture(scope="module")
def artifacts() -> list[Artifact]:
    return [small_policy("1.0.0", 1), small_policy("1.1.0", 2)]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    own_cache(monkeypatch, tmp_path)
    (tmp_path / "policies").mkdir()
    return tmp_path / "policies"


def put(folder: Path, artifact: Artifact) -> Path:
    return write_artifact(folder / f"v{artifact.card.version}", artifact).path


def pin(folder: Path, *artifacts: Artifact) -> None:
    (folder / "PINS").write_text("".join(f"{each.card.version} {each.digest}\n" for each in artifacts))


def started(folder: Path, run: str) -> Follower:
    (folder.parent / run).mkdir()
    settings = Settings(model=f"{folder}/@^1", device="cpu", fetch_timeout_s=1)
    return Follower(settings, folder.parent / run / "follow.json")


def poll_until(follower: Follower, happened: Callable[[Followed], object]) -> Status:
    seen: list[Followed] = []

    def is_so() -> bool:
        seen.append(follower.poll())
        return bool(happened(seen[-1]))

    until_true(is_so)
    return seen[-1].answers[0]


def here(version: str) -> Callable[[Followed], object]:
    return lambda followed: followed.answers[0].path and followed.answers[0].version == version


def drive(follower: Follower, folder: Path, version: str) -> Status:
    """Waits until a version may drive, and remembers it as a worker does that has taken it."""
    answer = poll_until(follower, here(version))
    remember(Settings(model=f"{folder}/@^1"), f"{folder}/@^1", answer)
    return answer


def test_pins_that_are_gone_let_nothing_new_in_not_even_after_a_restart(folder: Path, artifacts):
    for artifact in artifacts:
        put(folder, artifact)
    pin(folder, artifacts[0])
    first = started(folder, "first")
    drive(first, folder, "1.0.0")
    (folder / "PINS").unlink()
    for follower in (first, started(folder, "second")):
        answer = poll_until(follower, here("1.0.0"))
        assert "PINS is gone; until it is back nothing new is taken" in (answer.warning or "")
        assert answer.pinned
    pin(folder, *artifacts)
    poll_until(follower, here("1.1.0"))


def test_pins_that_came_while_a_version_drove_are_remembered_too(folder: Path, artifacts):
    put(folder, artifacts[0])
    first = started(folder, "first")
    drive(first, folder, "1.0.0")
    pin(folder, artifacts[0])
    first.poll()
    (folder / "PINS").unlink()
    put(folder, artifacts[1])
    second = started(folder, "second")
    answer = poll_until(second, here("1.0.0"))
    assert "PINS is gone" in (answer.warning or "")


def test_another_policy_does_not_take_the_place_of_one_that_is_gone(folder: Path, artifacts):
    put(folder, artifacts[0])
    first = started(folder, "first")
    drive(first, folder, "1.0.0")
    shutil.rmtree(folder / "v1.0.0")
    put(folder, again(artifacts[1], "1.2.0", name="other"))
    text = "it is other, and follow-me was served here"
    for follower in (first, started(folder, "second")):
        answer = poll_until(follower, lambda followed: text in (followed.answers[0].warning or ""))
        assert answer.version == "1.0.0"


def test_a_restart_serves_what_drove_while_the_newest_fails_its_trial(folder: Path, artifacts):
    put(folder, artifacts[0])
    drive(started(folder, "first"), folder, "1.0.0")
    put(folder, out_of_parity(artifacts[0], "1.2.0"))
    second = started(folder, "second")
    answer = poll_until(second, lambda followed: followed.refused)
    assert (answer.version, second.poll().refused[0].kind) == ("1.0.0", "parity")
    put(folder, again(artifacts[1], "1.3.0"))
    poll_until(second, here("1.3.0"))


def test_a_restart_does_not_go_down_while_the_newest_is_gone(folder: Path, artifacts):
    for artifact in artifacts:
        put(folder, artifact)
    drive(started(folder, "first"), folder, "1.1.0")
    shutil.rmtree(folder / "v1.1.0")
    text = "1.1.0 is no longer there as it was"
    answer = poll_until(started(folder, "second"), lambda followed: text in (followed.answers[0].warning or ""))
    assert answer.version == "1.1.0"


def test_a_revoked_version_drives_on_without_a_replacement_and_never_from_a_start(folder: Path, artifacts):
    put(folder, artifacts[0])
    put(folder, artifacts[1])
    pin(folder, *artifacts)
    first = started(folder, "first")
    drive(first, folder, "1.1.0")
    (folder / "v1.0.0" / "model.onnx").write_bytes(b"damaged")
    pin(folder, artifacts[0])
    is_said = lambda followed: "v1.0.0 is refused" in (followed.answers[0].warning or "")  # noqa: E731
    assert poll_until(first, is_said).version == "1.1.0"
    second = started(folder, "second")
    answer = poll_until(second, lambda followed: "v1.0.0 is refused" in (followed.answers[0].reason or ""))
    assert answer.path is None
    refused = second.poll().refused
    assert {(each.version, each.digest) for each in refused} == {("1.1.0", ""), ("1.0.0", "")}
    shutil.rmtree(folder / "v1.0.0")
    put(folder, artifacts[0])
    poll_until(second, here("1.0.0"))


def test_other_bytes_are_taken_under_a_version_that_never_drove(folder: Path, artifacts):
    put(folder, artifacts[0])
    follower = started(folder, "first")
    poll_until(follower, here("1.0.0"))  # no worker has taken it
    changed = again(artifacts[1], "1.0.0")
    shutil.rmtree(folder / "v1.0.0")
    put(folder, changed)
    poll_until(follower, lambda followed: followed.answers[0].digest == changed.digest)
