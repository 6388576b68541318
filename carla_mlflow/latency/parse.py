"""What the flag --latency says: `35ms`, a trace in a Parquet file, or `measured`."""

from __future__ import annotations

import re
from pathlib import Path

from ..errors import DrivingError
from .sources import Constant, LatencySource, Measured, Replayed
from .trace import MAX_MS, read_trace

MEASURED = "measured"
_TIME = re.compile(r"([0-9]+(?:\.[0-9]+)?)ms", re.ASCII)


def parse_latency(text: str) -> LatencySource:
    """The source of latencies that a text names.

    Args:
        text: milliseconds such as `35ms`, `measured`, or the path of a trace.

    Raises:
        DrivingError: it names none; says why.
    """
    if text == MEASURED:
        return Measured()
    time = _TIME.fullmatch(text)
    if time is not None:
        if float(time[1]) > MAX_MS:
            raise DrivingError(f"latency {text}: expected 0ms to {MAX_MS:g}ms")
        return Constant(round(float(time[1]) * 1e3))
    if not text.endswith(".parquet"):
        raise DrivingError(f"latency {text!a:.60}: expected a time such as 35ms, a trace.parquet, or measured")
    return Replayed(read_trace(Path(text)))
