"""Replays a journal: which version held which stage, now or at an earlier time. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from registry.rules.journal import NOTES, Entry, Move
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


class Replay:
    """Replays moves one after the other.

    Attributes:
        aliases: as in `Holders`, after the moves so far.
    """

    def __init__(self) -> None:
        self.aliases: dict[str, str] = {}
        self._archived: set[str] = set()
        self._before: dict[str, tuple[str, ...]] = {alias: () for alias in ALIASED}
        self._share, self._is_vetted = 0.0, False

    def apply(self, move: Move) -> None:
        """Takes the next move; one that moves no version changes nothing."""
        if move.kind in NOTES:
            return
        if move.to in ALIASED:
            self._take(move)
        if move.to in STAGED or (move.to == CANDIDATE and move.kind != "register"):
            self._archived.discard(move.version)
        elif move.to == ARCHIVED:
            self._archived.add(move.version)
        for alias in aliases_given_up(move.to) if move.kind != "register" else ():
            if self.aliases.get(alias) == move.version:
                self._before[alias] += (self.aliases.pop(alias),)
        if CANARY not in self.aliases:
            self._share, self._is_vetted = 0.0, False

    def _take(self, move: Move) -> None:
        held, before = self.aliases.get(move.to), self._before
        if move.kind == "rollback":
            before[move.to] = _until(before[move.to], move.version)
        elif held is not None and held != move.version:
            before[move.to] += (held,)
        elif held is None and before[move.to][-1:] == (move.version,):
            before[move.to] = before[move.to][:-1]  # the alias was removed, and given back
        self.aliases[move.to] = move.version
        if move.to == CANARY:
            self._share = move.canary_share or 0.0
            self._is_vetted = move.kind == "promote" or (self._is_vetted and held == move.version)

    def holders(self) -> Holders:
        """Which version holds what now."""
        return Holders(dict(self.aliases), frozenset(self._archived), dict(self._before), self._share, self._is_vetted)


def holders(entries: Iterable[Entry]) -> Holders:
    """Replays a chain; an entry that can't be read is skipped."""
    replay = Replay()
    for entry in entries:
        if entry.link:
            replay.apply(entry.link.move)
    return replay.holders()


def _until(before: tuple[str, ...], version: str) -> tuple[str, ...]:
    """The holders left when the alias goes back to a version: later ones, archived or deleted, are dropped."""
    places = [place for place, holder in enumerate(before) if holder == version]
    return before[: places[-1]] if places else before


def at(entries: Sequence[Entry], when: float) -> tuple[Holders, Entry | None]:
    """Which version held what at a time, seconds since 1970, and the last entry until then; None when there is none."""
    until = [entry for entry in entries if entry.link and entry.link.move.when <= when]
    return holders(until), until[-1] if until else None
