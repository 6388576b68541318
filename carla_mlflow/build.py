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
    try:
        command = ["git", "-C", str(HERE.parent), "rev-parse", "--short=12", "HEAD"]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=5).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return "unknown"


def git_state() -> str:
    """The commit, with `+changes` when the work tree differs from it, or `unknown` outside a checkout."""
    try:
        commit = subprocess.run(
            ["git", "rev-parse", "--short=12", "HEAD"], capture_output=True, text=True, check=True, timeout=5
        ).stdout.strip()
        changes = subprocess.run(
            ["git", "status", "--porcelain", "--untracked-files=no"], capture_output=True, text=True, timeout=5
        ).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return commit + ("+changes" if changes else "")
