"""Which commit this code was built from."""

from __future__ import annotations

import functools
import os
import subprocess
from pathlib import Path


@functools.cache
def git_sha() -> str:
    """$GIT_SHA where an image sets it, else this checkout's commit, else `unknown`."""
    if "GIT_SHA" in os.environ:
        return os.environ["GIT_SHA"]
    root = Path(__file__).parent.parent
    if not (root / ".git").exists():
        return "unknown"
    try:
        command = ["git", "-C", str(root), "rev-parse", "--short=12", "HEAD"]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=5).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return "unknown"
