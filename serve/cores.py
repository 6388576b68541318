"""How many processor cores this process may use."""

from __future__ import annotations

import math
import os
from pathlib import Path

CGROUPS = Path("/sys/fs/cgroup")


def usable_cores(cgroups: Path = CGROUPS) -> int:
    """The cores that this process may run on, and no more than its container's quota of time comes to.

    Args:
        cgroups: where the kernel shows the container's limits: `cpu.max` of version 2, or the files of version 1.
    """
    quota = _read(cgroups / "cpu.max") or [
        *_read(cgroups / "cpu" / "cpu.cfs_quota_us"),
        *_read(cgroups / "cpu" / "cpu.cfs_period_us"),
    ]
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if len(quota) == 2 and quota[0].isdigit() and int(quota[1]) > 0:  # no digits: "max" or -1, which is none
        cores = min(cores, max(1, math.ceil(int(quota[0]) / int(quota[1]))))
    return cores


def _read(path: Path) -> list[str]:
    try:
        return path.read_text().split()
    except OSError:
        return []
