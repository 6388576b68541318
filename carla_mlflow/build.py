"""Which commit this code was built from."""

from __future__ import annotations

import functools
import subprocess
from pathlib import Path

HERE = Path(__file__).parent


@functools.cache
def git_sha() -> str:
    """The commit in the file COMMIT, which hatch_build.py writes, else this checkout's commit, else `unknown`."""
    written = HERE / "COMMIT"
    if written.is_file():
        return written.read_text().strip()
    if not (HERE.parent / ".git").exists():
        return "unknown"
    return _of_checkout(HERE.parent) or "unknown"


def git_state() -> str:
    """The commit of the checkout around the current folder, with `+changes` when its files differ, or `unknown`."""
    here = Path.cwd()
    commit = _of_checkout(here)
    if not commit:
        return "unknown"
    return commit + ("+changes" if _git(here, "status", "--porcelain", "--untracked-files=no") else "")


def _of_checkout(folder: Path) -> str:
    return _git(folder, "rev-parse", "--short=12", "HEAD")


def _git(folder: Path, *arguments: str) -> str:
    """What git prints; empty where it fails or is not installed."""
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *arguments], capture_output=True, text=True, check=True, timeout=5
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip()
