"""Writes the commit into what is built, so that an installed package can say it."""

from __future__ import annotations

import os
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

INSIDE = "carla_mlflow/COMMIT"


class CommitHook(BuildHookInterface):
    """Adds a file of one line to wheels and sdists: $GIT_SHA, else the checkout's commit."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Called before a build. Args: the kind of build, and what goes into it."""
        root = Path(self.root)
        if version == "editable" or (root / INSIDE).exists():  # a checkout knows; an sdist was told when it was made
            return
        commit = os.environ.get("GIT_SHA") or _of_checkout(root)
        if commit:
            self._folder = tempfile.TemporaryDirectory()
            file = Path(self._folder.name) / "COMMIT"
            file.write_text(commit + "\n")
            build_data["force_include"][str(file)] = INSIDE


def _of_checkout(root: Path) -> str:
    if not (root / ".git").exists():
        return ""
    command = ["git", "-C", str(root), "rev-parse", "--short=12", "HEAD"]
    done = subprocess.run(command, capture_output=True, text=True)
    return done.stdout.strip()
