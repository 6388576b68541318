"""What a drive's report says of what the driver counted."""

from __future__ import annotations

import carla

from carla_agent.drive.report import DriveReport, as_text
from carla_agent.drive_record import DriveRecord


def test_ticks_whose_observation_was_missing_while_an_action_held_are_told():
    report, record = DriveReport(carla.Map), DriveRecord()  # no tick is added: the map is not asked
    record.decided(1.0, "0.1.0")
    assert "unseen" not in as_text(report.figures(record))
    record.unseen["no_data"] += 2
    figures = report.figures(record)
    assert figures["unseen"] == {"no_data": 2}
    assert "unseen ticks    2 no_data" in as_text(figures)


def test_the_file_of_a_film_is_told_where_one_was_written():
    figures = DriveReport(carla.Map).figures(DriveRecord())
    assert "film" not in as_text({**figures, "gif": None})
    assert "film            out.gif" in as_text({**figures, "gif": "out.gif"}).splitlines()
