"""Replays a journal: which version held which stage, now or at an earlier time. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from registry.rules.journal import NOTES, Entry
from registry.rules.lifecycle import ALIASED, ARCHIVED, CANARY, CANDIDATE, STAGED, aliases_given_up, stage_of


@dataclass(frozen=True)
class Holders:
    """Which version holds what, by the journal.

    Attributes:
        aliases: staging, production and canary → semantic version.
        archived: semantic versions.
        before: alias → the versions that held it before, the latest last; a rollback removes the one it restores.
        share: the canary's, in percent; 0 without a canary, and for one without a share.
        is_vetted: whether the canary was promoted by us, through its gates, rather than set in MLflow's UI.
    """

    aliases: dict[str, str]
    archived: frozenset[str]
    before: dict[str, tuple[str, ...]]
    share: float = 0.0
    is_vetted: bool = False

    @property
    def vetted_canary(self) -> str | None:
        """The canary that was promoted by us; None without one."""
        return self.aliases.get(CANARY) if self.is_vetted else None

    def stage(self, version: str) -> str:
        """The stage of a semantic version."""
        held = [alias for alias, holder in self.aliases.items() if holder == version]
        return stage_of(held, ARCHIVED if version in self.archived else None)


def holders(entries: Iterable[Entry]) -> Holders:
    """Replays a chain; an entry that can't be read is skipped."""
    aliases: dict[str, str] = {}
    archived: set[str] = set()
    before: dict[str, tuple[str, ...]] = {alias: () for alias in ALIASED}
    share, is_vetted = 0.0, False
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
            if move.to == CANARY:
                share = move.canary_share or 0.0
                is_vetted = move.kind == "promote" or (is_vetted and held == move.version)
        if move.to in STAGED or (move.to == CANDIDATE and move.kind != "register"):
            archived.discard(move.version)
        elif move.to == ARCHIVED:
            archived.add(move.version)
        for alias in aliases_given_up(move.to) if move.kind != "register" else ():
            if aliases.get(alias) == move.version:
                before[alias] += (aliases.pop(alias),)
        if CANARY not in aliases:
            share, is_vetted = 0.0, False
    return Holders(aliases, frozenset(archived), before, share, is_vetted)


def _until(before: tuple[str, ...], version: str) -> tuple[str, ...]:
    """The holders left when the alias goes back to a version: later ones, archived or deleted, are dropped."""
    places = [place for place, holder in enumerate(before) if holder == version]
    return before[: places[-1]] if places else before


def at(entries: Sequence[Entry], when: float) -> tuple[Holders, Entry | None]:
    """Which version held what at a time, seconds since 1970, and the last entry until then; None when there is none."""
    until = [entry for entry in entries if entry.link and entry.link.move.when <= when]
    return holders(until), until[-1] if until else None
