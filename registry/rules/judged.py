"""What a gate found, as the journal keeps it. Pure."""

from __future__ import annotations

from typing import Any

import msgspec

LONGEST = 300
"""The longest text that is kept of a finding: an entry of the journal lies in one of MLflow's tags."""


class Judged(msgspec.Struct, frozen=True):
    """What one gate found.

    Attributes:
        gate: its name.
        passed: whether its bar was passed.
        text: why, in words.
    """

    gate: str
    passed: bool
    text: str


def judged(findings: Any) -> tuple[Judged, ...]:
    """Findings of gates as the journal keeps them: anything with `gate`, `passed` and `text`."""
    return tuple(Judged(each.gate, each.passed, _short(each.text)) for each in findings)


def _short(text: str) -> str:
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"
