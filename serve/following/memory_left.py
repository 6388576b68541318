"""How much memory is left: on the machine, and in each control group of this process."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

CGROUPS, PROC = Path("/sys/fs/cgroup"), Path("/proc")
_V2 = ("memory.max", "memory.current", "")
_V1 = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_")
"""For both versions of control groups: the files of limit and usage, and the prefix of the names in memory.stat."""


def memory_left(cgroups: Path = CGROUPS, proc: Path = PROC) -> int:
    """Returns the bytes that are left, counting the kernel's file cache as free; sys.maxsize if that is unknown.

    Args:
        cgroups: where control groups are mounted.
        proc: where the proc file system is mounted.
    """
    try:
        meminfo = dict(line.split(":") for line in (proc / "meminfo").read_text().splitlines())
        available = int(meminfo["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError, ValueError):  # a sandbox without these figures
        available = sys.maxsize
    return max(0, min([available, *_left_in_groups(cgroups, proc)]))


def anonymous_memory(pid: int, proc: Path = PROC) -> int:
    """Returns the bytes of a process's memory that no file backs; 0 when it has ended."""
    try:
        status = (proc / str(pid) / "status").read_text()
    except OSError:
        return 0
    return sum(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith(("RssAnon", "RssShmem")))


def _left_in_groups(cgroups: Path, proc: Path) -> Iterator[int]:
    """Yields the bytes left in each group that has a limit: this process's own, and those above it."""
    try:
        lines = (proc / "self" / "cgroup").read_text().splitlines()
    except OSError:  # a kernel without control groups
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers not in ("", "memory"):
            continue
        root, names = (cgroups / "memory", _V1) if controllers else (cgroups, _V2)
        own = root / path.strip("/")
        for folder in (own, *own.parents):
            if folder == root.parent:
                break
            left = _left_in(folder, *names)
            if left is not None:
                yield left


def _left_in(folder: Path, limit: str, usage: str, prefix: str) -> int | None:
    try:
        most = int((folder / limit).read_text())  # raises ValueError for "max"
        used = int((folder / usage).read_text())
        stat = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
    except (OSError, ValueError):
        return None
    files = sum(int(stat.get(f"{prefix}{kind}_file", 0)) for kind in ("active", "inactive"))
    return most - used + files
