"""Which commit this code was built from."""

from __future__ import annotations

import functools
import subprocess
from pathlib import Path

HERE = Path(__file__).parent


@functools.cache
def git_sha() -> str:
    """What the build wrote beside this file (hatch_build.py), else this checkout's commit, else `unknown`."""
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
