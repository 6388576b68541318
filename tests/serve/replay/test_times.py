"""The times that a replay is asked for: as long as they are written."""

from __future__ import annotations

import argparse
import time

import pytest
from made_recordings import BEGAN

from serve.replay.times import moment, nanoseconds

SECOND = 10**9


@pytest.mark.parametrize(
    ("text", "start", "lasts"),
    [
        ("2025-11-28T14:02Z", 0, 60 * SECOND),
        ("2025-11-28T14:02:07Z", 7 * SECOND, SECOND),
        ("2025-11-28 14:02:07+00:00", 7 * SECOND, SECOND),
        ("2025-11-28T15:02:07+0100", 7 * SECOND, SECOND),
        ("2025-11-28T14:02:07.250000001Z", 6_750_000_001, SECOND),
        ("2025-11-28T14Z", -120 * SECOND, 3600 * SECOND),
    ],
)
def test_a_moment_is_as_long_as_it_is_written(text: str, start: int, lasts: int):
    window = moment(text)
    assert (window.start - BEGAN, window.end - window.start) == (start, lasts)


def test_a_time_without_an_offset_is_local():
    here = time.strftime("%Y-%m-%dT%H:%M", time.localtime(BEGAN // SECOND))
    assert moment(here).start == BEGAN
    assert nanoseconds(here + ":00.000000001") == BEGAN + 1
    assert moment("2025-11-28").end - moment("2025-11-28").start == 86_400 * SECOND


@pytest.mark.parametrize(
    "text", ["noon", "", "14:02", "2025-11-31T14:02", "20251128T1402", "2025-11-28T14:02:", "0001-01-01T00:00+23:59"]
)
def test_what_is_no_time_is_refused(text: str):
    with pytest.raises(argparse.ArgumentTypeError, match="is no time: expected such as"):
        moment(text)
