"""How carla-registry prints: lines for a person, or one JSON object."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from carla_mlflow.escaping import escaped

if TYPE_CHECKING:
    from registry.rules.policy_version import PolicyVersion


def show(options: argparse.Namespace, text: str, value: Any) -> None:
    """Prints the text, or with --json the value, whose dataclasses become objects.

    Line breaks in the text are kept, so the caller has to escape whatever somebody typed.
    """
    print(json.dumps(value, default=asdict) if options.json else escaped(text, keep="\n"), flush=True)


def line(version: PolicyVersion) -> str:
    parts = [f"{version.name} {version.semver}", version.stage, version.digest, f"({version.uri})"]
    return escaped("  ".join(part for part in parts if part))


def clock(seconds: float) -> str:
    """Seconds since 1970 → local date and time."""
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(seconds))


def table(rows: Sequence[tuple[str, ...]]) -> str:
    """Rows of cells → aligned columns; the first row holds the headings."""
    rows = [tuple(map(escaped, row)) for row in rows]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join("  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip() for row in rows)
