"""The times that a replay is asked for: a moment, or from when to when."""

from __future__ import annotations

import argparse
import re
from datetime import datetime

from serve.replay.window import Window

_TIME = re.compile(
    r"(?P<date>\d{4}-\d\d-\d\d)"
    r"(?:(?P<hour>[T ]\d\d)(?:(?P<minute>:\d\d)(?:(?P<second>:\d\d)(?P<fraction>\.\d{1,9})?)?)?)?"
    r"(?P<zone>Z|[+-]\d\d:?\d\d)?"
)
EXPECTED = "expected such as 2026-11-28T14:02 or 2026-11-28T14:02:07.250, local unless it ends in +00:00 or Z"


def nanoseconds(text: str) -> int:
    """An argparse type: ISO 8601, local time unless it has an offset → nanoseconds since 1970."""
    return _parsed(text)[0]


def moment(text: str) -> Window:
    """An argparse type: a time as precise as it is written: a day, an hour, a minute or a second.

    With a fraction of a second: the second around it.
    """
    start, length = _parsed(text)
    return Window(start, start + length) if length else Window(start - 500_000_000, start + 500_000_000)


def _parsed(text: str) -> tuple[int, int]:
    """Nanoseconds since 1970, and how long what was written lasts; 0 with a fraction of a second."""
    found = _TIME.fullmatch(text)
    try:
        if found is None:
            raise ValueError
        whole = "".join(found[part] or "" for part in ("date", "hour", "minute", "second", "zone"))
        seconds = int(datetime.fromisoformat(whole).timestamp())
        if not 0 <= seconds < 2**63 // 10**9:  # what a timestamp of a recording can be
            raise ValueError
    except (ValueError, OverflowError) as error:
        raise argparse.ArgumentTypeError(f"{text!r} is no time: {EXPECTED}") from error
    fraction = found["fraction"]
    if fraction:
        return seconds * 10**9 + int(fraction[1:].ljust(9, "0")), 0
    lasts = 1 if found["second"] else 60 if found["minute"] else 3600 if found["hour"] else 86_400
    return seconds * 10**9, lasts * 10**9
