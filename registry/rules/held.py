"""Which version held which alias from when until when, by the journal. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from registry.rules.journal import Entry, Move
from registry.rules.lifecycle import ALIASED
from registry.rules.replay import Replay


@dataclass(frozen=True)
class Held:
    """A time during which one version held an alias.

    Attributes:
        alias: staging, production or canary.
        version: the semantic version.
        begins: the move by which it got the alias.
        ends: seconds since 1970; None while it holds it.
    """

    alias: str
    version: str
    begins: Move
    ends: float | None = None


def held(entries: Sequence[Entry]) -> list[Held]:
    """Every such time, in the order of their beginnings.

    Args:
        entries: the journal's chain.
    """
    found: list[Held] = []
    open_now: dict[str, int] = {}
    replay = Replay()
    for move in (entry.link.move for entry in entries if entry.link):
        replay.apply(move)
        for alias in ALIASED:
            place = open_now.get(alias)
            if place is not None and replay.aliases.get(alias) != found[place].version:
                found[place] = replace(found[place], ends=move.when)
                del open_now[alias]
            if alias in replay.aliases and alias not in open_now:
                open_now[alias] = len(found)
                found.append(Held(alias, replay.aliases[alias], move))
    return found
