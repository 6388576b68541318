"""Durations as people type them: 10s, 30m, 2h, 1d. Pure."""

from __future__ import annotations

import re

from carla_mlflow.errors import RefusedError

_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_DURATION = re.compile(r"(\d+(?:\.\d+)?)([smhd])")
MAX_S = 30 * 86400.0


def parse_duration(text: str) -> float:
    """A duration in seconds, above 0 and at most 30 days.

    Raises:
        RefusedError: the text is none.
    """
    found = _DURATION.fullmatch(text)
    seconds = float(found[1]) * _UNITS[found[2]] if found else 0.0
    if not 0 < seconds <= MAX_S:
        raise RefusedError(f"{text!r} is no duration; expected such as 10s, 30m or 2h, at most 30d")
    return seconds


def say_duration(seconds: float) -> str:
    """Seconds in the largest unit of which they are a whole number: 1800 → 30m."""
    for unit, size in reversed(_UNITS.items()):
        if seconds >= size and seconds % size == 0:
            return f"{seconds / size:.0f}{unit}"
    return f"{seconds:.4g}s"
