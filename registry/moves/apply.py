"""Carrying out the journal's last entry: the aliases, the mirrors, the mark. Once or again, it is the same.

MLflow has no compare-and-set: a process that was stopped between looking and writing writes late. It then finds that
the journal went on, and takes its own write back. It may die before: so it says in the entry that it writes, before it
does, and whoever finds such a write takes it back in its place. What a person moved in MLflow's UI after the entry
stays.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass

from registry.rules.journal import WRITER, Entry, Move, chain, run_links
from registry.rules.lifecycle import ALIASED, ARCHIVED, CANDIDATE, LEFT
from registry.rules.listing import Listed
from registry.rules.replay import holders
from registry.rules.ui_moves import STAGES
from registry.store.store import Store

LATE_S = 600.0
"""A process that has said for so long that it writes has died before it wrote: what looks like its write is a
person's. Its calls end after seconds; only one that was stopped for so long, and then dies, is taken for a person."""

Written = dict[str, str | None]
"""Alias → who holds it by what was written, None for nobody."""


def is_unfinished(last: Entry) -> bool:
    """Whether the process that wrote the entry died before it had carried it out."""
    return last.link is not None and last.link.move.kind != "register" and not last.applied


def carry_out(store: Store, name: str, entries: Sequence[Entry]) -> None:
    """Brings MLflow in line with the last entry of a policy's chain."""
    last = entries[-1]
    writer = _begin(store, name, last)
    written = _write_aliases(store, name, last.move)
    _settle(store, name, entries, written, everything=last.move.kind == "seen")
    store.end_writing(name, last.number, writer)
    store.mark_applied(name, last.number)


@dataclass(frozen=True)
class Late:
    """What a process wrote late that has not taken it back.

    Attributes:
        aliases: that it wrote.
        stages: the versions whose legacy stage it wrote.
    """

    aliases: Written
    stages: list[str]

    def __bool__(self) -> bool:
        return bool(self.aliases or self.stages)


def late_writes(entries: Sequence[Entry], found: Listed, now: float) -> Late:
    """What of MLflow is as the journal had it when a process began to write that has not ended.

    Args:
        entries: the chain.
        found: the policy in MLflow.
        now: seconds since 1970.
    """
    begun = [
        place for place, entry in enumerate(entries[:-1]) if any(_is_alive(t, now) for t in entry.writers.values())
    ]
    if not begun:
        return Late({}, [])
    past = [holders(entries[:end]) for end in range(begun[0] + 1, len(entries))]
    wanted, held = holders(entries), found.holders
    aliases = {alias: held.get(alias) for alias in ALIASED if held.get(alias) != wanted.aliases.get(alias)}
    stages = {v.semver: STAGES[v.legacy_stage] for v in found.versions}
    return Late(
        {alias: holder for alias, holder in aliases.items() if holder in [was.aliases.get(alias) for was in past]},
        [v for v, stage in stages.items() if stage != wanted.stage(v) and stage in [was.stage(v) for was in past]],
    )


def take_back(store: Store, name: str, entries: Sequence[Entry], late: Late) -> None:
    """Puts what the journal says in the place of what was written late, for processes that died before they did."""
    writer = _begin(store, name, entries[-1])
    _settle(store, name, entries, _give_way(store, name, entries, late.aliases), everything=True)
    store.end_writing(name, entries[-1].number, writer)
    for entry in entries[:-1]:
        for dead in entry.writers:
            store.end_writing(name, entry.number, dead)


def _begin(store: Store, name: str, entry: Entry) -> str:
    writer = WRITER + secrets.token_hex(8)
    store.begin_writing(name, entry.number, writer)
    return writer


def _is_alive(began: str, now: float) -> bool:
    """Whether a process that began then may write still."""
    try:
        return now - float(began) < LATE_S
    except ValueError:  # somebody edited it
        return False


def _settle(store: Store, name: str, entries: Sequence[Entry], written: Written, everything: bool) -> None:
    """Mirrors what was written; where others moved on meanwhile, gives way to them, and looks again."""
    first = len(entries) - 1
    while True:
        moves = [entry.link.move for entry in entries[first:] if entry.link]
        moved = {holder for move in moves for holder in (move.version, move.displaced) if holder}
        store.mirror_stages(name, holders(entries).archived, None if everything else moved)
        later = chain([*entries, *store.journal(name, entries[-1].number)])
        if later[-1].number == entries[-1].number:
            return
        entries = later
        written |= _give_way(store, name, entries, written)


def _write_aliases(store: Store, name: str, move: Move) -> Written:
    held, written = store.holders(name), Written()
    # None when it was deleted, or has no semantic version and was moved in the UI.
    version = store.find(name, move.version)
    if version is not None and move.to in ALIASED and held.get(move.to) == move.displaced:
        store.set_alias(version, move.to)
        written[move.to] = move.version
    for alias in _leaves(move):
        if held.get(alias) == move.version:
            store.delete_alias(name, alias)
            written[alias] = None
    runs = run_links(move)
    if version is not None and runs:
        store.tag(version, "evidence", "\n".join(runs))
    return written


def _leaves(move: Move) -> tuple[str, ...]:
    if move.to in {ARCHIVED, CANDIDATE}:
        return ALIASED
    return (move.to.removeprefix(LEFT),) if move.to.startswith(LEFT) else ()


def _give_way(store: Store, name: str, entries: Sequence[Entry], written: Written) -> Written:
    """Others moved on before the aliases were written: where the writing still stands, theirs is put in its place."""
    wanted, held = holders(entries).aliases, store.holders(name)
    given: Written = {}
    for alias, holder in written.items():
        theirs = wanted.get(alias)
        if held.get(alias) != holder or theirs == holder:
            continue
        if theirs is None:
            store.delete_alias(name, alias)
        elif version := store.find(name, theirs):
            store.set_alias(version, alias)
        else:
            continue  # it was deleted
        given[alias] = theirs
    return given
