"""What a follower knows of a canary after a restart, and what it forgets of one that ended, without a registry."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from registry.rules.canary import Canary
from registry.rules.policy_version import PolicyVersion
from serve.following.follower import Follower
from serve.run_folder import Followed, Holdable, Status, write_file
from serve.settings import Settings

LIVE = SimpleNamespace(is_live=lambda *_: True)
"""A registry in which nothing was archived or removed."""


def status(version: str, *holdable: str) -> Status:
    line = tuple(Holdable(each, f"sha256:{each}") for each in holdable)
    return Status("/cache", f"sha256:{version}", version, wanted=f"sha256:{version}", holdable=line)


@pytest.fixture
def follower(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Follower:
    """One that takes over: 1.1.0 is in production, 1.0.0, which was there before it, is a canary with 40 %."""

    def silent(_: Follower) -> None:
        raise TimeoutError

    monkeypatch.setattr(Follower, "registry", silent)
    file = tmp_path / "follow.json"
    write_file(file, Followed((status("1.1.0", "1.0.0"),), canary=status("1.0.0"), canary_share=40.0))
    return Follower(Settings(model="mine@production", canary=True), file)


def test_a_follower_that_takes_over_while_the_registry_is_silent_keeps_the_canary_and_its_share(follower: Follower):
    for _ in range(2):
        followed = follower.poll()
        assert (followed.registry, followed.canary_share) == ("unreachable", 40.0)
        assert followed.canary is not None
        assert (followed.canary.version, followed.canary.path) == ("1.0.0", "/cache")


@pytest.mark.parametrize(("share", "stage"), [(None, "candidate"), (40.0, "candidate"), (40.0, "archived")])
def test_a_canary_that_is_not_followed_any_more_ends_its_episodes_in_production_too(
    follower: Follower, share: float | None, stage: str
):
    version = PolicyVersion("mine", "1", "1.0.0", "sha256:1.0.0", "", stage, (), "", 0.0)
    follower._settle_canary((LIVE, Canary(version, share, is_vetted=False)))
    assert follower._references[0].answer.holdable == ()


def test_a_canary_that_goes_on_takes_nothing_from_production(follower: Follower):
    version = PolicyVersion("mine", "1", "1.0.0", "sha256:1.0.0", "", "candidate", (), "", 0.0)
    follower._settle_canary((LIVE, Canary(version, 60.0, is_vetted=True)))
    assert follower._references[0].answer.holdable == (Holdable("1.0.0", "sha256:1.0.0"),)
    assert follower._canary is not None
    assert follower._canary.share == 60.0
