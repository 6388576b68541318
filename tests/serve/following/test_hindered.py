"""A worker that can't write down what it is about to serve."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from patience import PATIENCE_S

from carla_mlflow import open_artifact
from serve.following.worker_side import Following
from serve.policy.slot import Slot
from serve.run_folder import Followed, Status, write_file
from serve.settings import Settings

REFERENCE = "racetrack-policy@production"


def step_until(following: Following, went_well: bool) -> None:
    ends = time.monotonic() + PATIENCE_S
    while following.try_step() != went_well:
        assert time.monotonic() < ends
        time.sleep(0.02)


def test_what_hinders_a_worker_is_said_once_and_what_it_loaded_is_served_as_soon_as_it_may(
    example: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    monkeypatch.setenv("POLICY_CACHE_DIR", str(tmp_path / "cache"))
    artifact = open_artifact(example)
    answer = Status(str(example), artifact.digest, artifact.card.version, "production", wanted=artifact.digest)
    write_file(tmp_path / "follow.json", Followed(answers=(answer,)))
    slot = Slot(tmp_path, (REFERENCE,))
    nothing = slot.policies
    settings = Settings(model=REFERENCE, device="cpu", cache_dir=str(tmp_path / "cache"))
    following = Following(slot, settings, tmp_path / "follow.json")
    for _hindrance in range(2):
        slot._replace(nothing)
        (tmp_path / "good.lock").unlink(missing_ok=True)
        (tmp_path / "good.lock").mkdir()
        step_until(following, went_well=False)
        [loaded] = following._loads.values()
        assert [following.try_step() for _ in range(4)] == [False] * 4
        assert list(following._loads.values()) == [loaded]  # not once more
        assert slot.serving is None
        [record] = [record for record in caplog.records if record.levelname == "ERROR"]
        assert record.getMessage() == "what the follower found could not be applied; trying again every second"
        caplog.clear()
        (tmp_path / "good.lock").rmdir()
        assert following.try_step()
        assert slot.serving is not None
