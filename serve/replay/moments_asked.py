"""The times that a replay is asked for: a moment, or from when to when."""

from __future__ import annotations

import argparse
import re
from datetime import datetime

from serve.replay.session import Window

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
    whole, fraction = re.fullmatch(r"([^.]*)(?:\.\d+)?(?:.*)", text), re.search(r"\.(\d{1,9})", text)
    try:
        if whole is None:
            raise ValueError
        without = re.sub(r"\.\d+", "", text)
        seconds = datetime.fromisoformat(without).timestamp()
    except (ValueError, OverflowError) as error:
        raise argparse.ArgumentTypeError(f"{text!r} is no time: {EXPECTED}") from error
    start = int(seconds) * 10**9 + (int(fraction[1].ljust(9, "0")) if fraction else 0)
    clock = re.sub(r"(Z|[+-]\d\d:?\d\d)$", "", without[10:])
    colons = clock.count(":")
    lasts = {0: 3600 if clock else 86_400, 1: 60, 2: 1}[min(colons, 2)]
    return start, 0 if fraction else lasts * 10**9
