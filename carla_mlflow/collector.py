"""The garbage collector of a process that imports much and ends soon, such as a command.

MLflow, torch and what they bring along make a million objects, which all stay. To look through them again and again
while they come, and once more when the process ends, takes a good part of the time of a command that asks a registry.
"""

from __future__ import annotations

import atexit
import gc

ALLOCATIONS = 10_000
"""New objects after which the collector looks through them; Python's own 700 (2,000 from 3.12 on) come all the time."""


def collect_less() -> None:
    """Has this process look for garbage less often, and not once more when it ends.

    So what has to be written at the end is closed, not left to the collector.
    """
    gc.set_threshold(ALLOCATIONS)
    atexit.unregister(gc.freeze)  # once, however often this is called
    atexit.register(gc.freeze)
