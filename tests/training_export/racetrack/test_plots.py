"""The films that people look at show the drive."""

from __future__ import annotations

from pathlib import Path

import pytest
from films import assert_shows_a_drive
from tests_support import ROOT

from training_export.evaluation.evaluate import film
from training_export.racetrack.conditions import Conditions
from training_export.racetrack.driving import straight_ahead


@pytest.mark.parametrize("driver", [None, "dummy"], ids=["no screen", "a screen that draws nothing"])
def test_a_film_shows_the_drive_whatever_screen_there_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, driver: str | None
):
    if driver is None:
        monkeypatch.delenv("SDL_VIDEODRIVER", raising=False)
    else:
        monkeypatch.setenv("SDL_VIDEODRIVER", driver)
    film(straight_ahead, 1, Conditions(traffic=2, duration_s=2.0), tmp_path / "film.gif")
    assert_shows_a_drive(tmp_path / "film.gif")


def test_the_readmes_film_shows_a_drive_among_other_cars():
    assert_shows_a_drive(ROOT / "docs" / "images" / "racetrack.gif")
