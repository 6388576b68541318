"""How many processor cores this process may use."""

from __future__ import annotations

import math
import os
from pathlib import Path

CGROUPS = Path("/sys/fs/cgroup")


def usable_cores(cgroups: Path = CGROUPS) -> int:
    """Returns the cores of this process's CPU affinity, limited by its container's CPU quota (rounded up).

    Args:
        cgroups: where the kernel shows the container's limits: `cpu.max` of version 2, or the files of version 1.
    """
    quota = _read(cgroups / "cpu.max") or [
        *_read(cgroups / "cpu" / "cpu.cfs_quota_us"),
        *_read(cgroups / "cpu" / "cpu.cfs_period_us"),
    ]
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if len(quota) == 2 and quota[0].isdigit() and int(quota[1]) > 0:  # "max" and -1 mean no quota
        cores = min(cores, max(1, math.ceil(int(quota[0]) / int(quota[1]))))
    return cores


def _read(path: Path) -> list[str]:
    try:
        return path.read_text().split()
    except OSError:
        return []
