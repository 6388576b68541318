"""What the shadow's process may take: what nobody else wants. Imports next to nothing, as it comes before all else."""

from __future__ import annotations

import contextlib
import os
import resource
from pathlib import Path

NICE, OOM_SCORE = 19, 1000
"""The lowest priority, and the score of a process that the kernel ends before all others when memory runs out."""
RESERVED = 3
"""How much private memory it may reserve for each byte that it may use: libraries reserve more than they touch."""
MB = 1_000_000
_IOPRIO_SET, _IOPRIO_CLASS_IDLE = {"x86_64": 251, "aarch64": 30}, 3 << 13
"""Linux's system call `ioprio_set`, by machine, and its class for a disk that is idle (linux/ioprio.h)."""


def restrict(memory_mb: float) -> None:
    """Restricts this process and all that it starts: processor, disk, memory, and no core dumps.

    To be called before any thread is started: Linux keeps priorities by thread. What a system does not know, such as
    SCHED_IDLE, is left out.

    Args:
        memory_mb: most megabytes that it may use; it may reserve RESERVED times as many.
    """
    with contextlib.suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, 0, NICE)
    with contextlib.suppress(AttributeError, OSError):  # only Linux has it
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    _be_last_at_the_disk()
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text(str(OOM_SCORE))
    _lower(resource.RLIMIT_DATA, int(RESERVED * memory_mb * MB))
    _lower(resource.RLIMIT_CORE, 0)


def _lower(limit: int, value: int) -> None:
    _, hard = resource.getrlimit(limit)
    value = value if hard == resource.RLIM_INFINITY else min(value, hard)
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(limit, (value, value))


def _be_last_at_the_disk() -> None:
    import ctypes

    number = _IOPRIO_SET.get(os.uname().machine)
    if number is not None:
        with contextlib.suppress(AttributeError, OSError):
            ctypes.CDLL(None).syscall(number, 1, 0, _IOPRIO_CLASS_IDLE)  # 1: this process; 0: the caller
