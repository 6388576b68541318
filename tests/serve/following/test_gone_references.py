"""A reference that the registry no longer knows: its version is served on, but no other is held for it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from benchmarks.policies.two_policies import small_policy, write
from carla_mlflow import open_artifact
from carla_mlflow.errors import NotFoundError
from serve.following.arrivals import Arrivals
from serve.following.followed_reference import FollowedReference
from serve.following.refusals import Refusals
from serve.run_folder import Holdable, Status
from serve.settings import Settings


class Forgetful:
    """A registry without this reference."""

    def resolve(self, reference: Any) -> Any:
        raise NotFoundError("there is no such reference")


def test_nothing_may_be_held_for_a_reference_that_is_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    artifact = open_artifact(write(small_policy("1.1.0", 1), tmp_path))
    held = (Holdable("1.0.0", "sha256:" + "0" * 64),)
    before = Status(str(artifact.path), artifact.digest, "1.1.0", wanted=artifact.digest, holdable=held)
    settings = Settings(model="mine@production")
    followed = FollowedReference(
        settings,
        settings.model,
        before,
        Refusals(),
        Arrivals(settings, tmp_path, lambda: None),
        tmp_path,
        lambda _: None,
    )
    followed.resolve(Forgetful)
    assert (followed.answer.digest, followed.answer.holdable) == (artifact.digest, ())
    assert "the registry no longer knows it" in (followed.answer.warning or "")
