"""How much memory may still be taken here: by the machine, and by each control group that this process is in."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

CGROUPS, PROC = Path("/sys/fs/cgroup"), Path("/proc")
_V2 = ("memory.max", "memory.current", "")
_V1 = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_")
"""Of the two versions of control groups: the limit's file, the usage's, and what begins the names in memory.stat."""


def memory_left(cgroups: Path = CGROUPS, proc: Path = PROC) -> int:
    """Bytes that the kernel would still give, what it keeps of files counted as free; sys.maxsize where nothing says.

    Args:
        cgroups: where control groups are mounted.
        proc: where processes are.
    """
    try:
        meminfo = dict(line.split(":") for line in (proc / "meminfo").read_text().splitlines())
        available = int(meminfo["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError, ValueError):  # a sandbox that does not say
        available = sys.maxsize
    return max(0, min([available, *_left_in_groups(cgroups, proc)]))


def anonymous_memory(pid: int, proc: Path = PROC) -> int:
    """Bytes that a process holds and shares with no file; 0 when it is gone."""
    try:
        status = (proc / str(pid) / "status").read_text()
    except OSError:
        return 0
    return sum(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith(("RssAnon", "RssShmem")))


def _left_in_groups(cgroups: Path, proc: Path) -> Iterator[int]:
    """Of each group that has a limit, this process's own and those above it."""
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
        most = int((folder / limit).read_text())  # "max" is no number
        used = int((folder / usage).read_text())
        stat = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
    except (OSError, ValueError):
        return None
    files = sum(int(stat.get(f"{prefix}{kind}_file", 0)) for kind in ("active", "inactive"))
    return most - used + files
