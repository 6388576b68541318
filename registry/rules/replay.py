"""Replays a journal: which version held which stage, now or at an earlier time. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from registry.rules.journal import NOTES, Entry
from registry.rules.lifecycle import ALIASED, ARCHIVED, CANDIDATE, LEFT, stage_of


@dataclass(frozen=True)
class Holders:
    """Which version holds what, by the journal.

    Attributes:
        aliases: staging and production → semantic version.
        archived: semantic versions.
        before: alias → the versions that held it before, the latest last; a rollback removes the one it restores.
    """

    aliases: dict[str, str]
    archived: frozenset[str]
    before: dict[str, tuple[str, ...]]

    def stage(self, version: str) -> str:
        """The stage of a semantic version."""
        held = [alias for alias, holder in self.aliases.items() if holder == version]
        return stage_of(held, ARCHIVED if version in self.archived else None)


def holders(entries: Iterable[Entry]) -> Holders:
    """Replays a chain; an entry that can't be read is skipped."""
    aliases: dict[str, str] = {}
    archived: set[str] = set()
    before: dict[str, tuple[str, ...]] = {alias: () for alias in ALIASED}
    for move in (entry.link.move for entry in entries if entry.link and entry.link.move.kind not in NOTES):
        if move.to in ALIASED:
            held = aliases.get(move.to)
            if move.kind == "rollback":
                before[move.to] = _until(before[move.to], move.version)
            elif held is not None and held != move.version:
                before[move.to] += (held,)
            elif held is None and before[move.to][-1:] == (move.version,):
                before[move.to] = before[move.to][:-1]  # the alias was removed, and given back
            aliases[move.to] = move.version
            archived.discard(move.version)
        elif move.to.startswith(LEFT):
            alias = move.to.removeprefix(LEFT)
            before[alias] += (aliases.pop(alias),) if alias in aliases else ()
        elif move.to in {ARCHIVED, CANDIDATE} and move.kind != "register":
            for alias in [alias for alias, version in aliases.items() if version == move.version]:
                before[alias] += (aliases.pop(alias),)
            if move.to == ARCHIVED:
                archived.add(move.version)
            else:
                archived.discard(move.version)
    return Holders(aliases, frozenset(archived), before)


def _until(before: tuple[str, ...], version: str) -> tuple[str, ...]:
    """The holders left when the alias goes back to a version: later ones, archived or deleted, are dropped."""
    places = [place for place, holder in enumerate(before) if holder == version]
    return before[: places[-1]] if places else before


def at(entries: Sequence[Entry], when: float) -> tuple[Holders, Entry | None]:
    """Which version held what at a time, seconds since 1970, and the last entry until then; None when there is none."""
    until = [entry for entry in entries if entry.link and entry.link.move.when <= when]
    return holders(until), until[-1] if until else None
