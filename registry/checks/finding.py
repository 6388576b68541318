"""What a look at one thing that may go wrong has found."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Finding:
    """One line of `carla-registry doctor`.

    Attributes:
        check: what was looked at, in a word or two.
        ok: whether it is as it should be.
        found: what is there, in words.
        todo: what to do about a problem; empty if there is none.
        no_answer: whether the problem is that a registry does not answer.
    """

    check: str
    ok: bool
    found: str
    todo: str = ""
    no_answer: bool = False
