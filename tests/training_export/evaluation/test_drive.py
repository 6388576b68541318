"""The example policy drives: in process and over a real server, with the figures that its card gives."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from films import assert_shows_a_drive
from tests_support import Server, command_here, run_command

from carla_mlflow import open_artifact
from carla_mlflow.contract.figures import with_new_names

pytestmark = pytest.mark.slow


def test_the_example_drives_as_well_as_it_must_and_as_its_card_says(example: Path):
    figures = with_new_names(open_artifact(example).card.metrics["closed_loop"])
    assert figures["success_rate"] >= 0.8
    assert figures["speed_mps_mean"] >= 5
    assert figures["episodes"] >= 20
    assert figures["traffic"] >= 1
    assert figures["duration_s"] >= 30
    done = command_here("training_export", "evaluate", str(example), "--episodes", "20")
    assert done.code == 0, done.err
    assert "the card's figures: reproduced" in done.out


def test_a_car_drives_by_asking_a_server_whose_key_is_in_the_environment(
    start_server: Callable[..., Server], example: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("POLICY_API_KEY", "s3cret")
    url = start_server("--model", str(example)).url
    drive = ("python", "-m", "training_export", "drive", "--url", url, "--episodes", "1", "--duration", "1")
    done = run_command(*drive)
    assert (done.code, "driven by: racetrack-policy 0.1.0" in done.out) == (0, True), done.err
    assert "expected Authorization: Bearer" in run_command(*drive, env={"POLICY_API_KEY": ""}).err
    kit = run_command("python", "-m", "carla_mlflow.testing", url)
    assert kit.code == 0, kit.out + kit.err


def test_a_car_drives_by_asking_the_server(server: Server, example: Path, tmp_path: Path):
    gif = tmp_path / "drive.gif"
    done = command_here("training_export", "drive", "--url", server.url, "--episodes", "2", "--gif", str(gif))
    assert done.code == 0, done.err
    assert f"driven by: racetrack-policy 0.1.0 {open_artifact(example).digest} (" in done.out
    assert "p50" in done.out
    assert_shows_a_drive(gif, among_others=False)
