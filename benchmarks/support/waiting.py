"""Waits until something has happened."""

from __future__ import annotations

import math
import time
from collections.abc import Callable


def seconds_until(condition: Callable[[], object], limit_s: float = 30.0, pause_s: float = 0.02) -> float:
    """Seconds until the condition holds; infinity when it does not within the limit."""
    began = time.monotonic()
    while time.monotonic() - began < limit_s:
        if condition():
            return time.monotonic() - began
        time.sleep(pause_s)
    return math.inf
