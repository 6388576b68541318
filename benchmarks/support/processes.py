"""Processes with all that they have started, and their memory."""

from __future__ import annotations

import contextlib

import psutil


def tree(pid: int) -> list[psutil.Process]:
    """A process and all below it; empty when it has ended."""
    with contextlib.suppress(psutil.Error):
        first = psutil.Process(pid)
        return [first, *first.children(recursive=True)]
    return []


def pss_mb(pid: int) -> list[float]:
    """MB of PSS of a process and of each below it: what several of them share is divided among them."""
    sizes = []
    for process in tree(pid):
        with contextlib.suppress(psutil.Error):  # ended in the meantime
            sizes.append(process.memory_full_info().pss / 1e6)
    return sizes
