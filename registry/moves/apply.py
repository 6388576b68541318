"""Carries out the journal's last entry: aliases, mirrored stages, the mark `applied`. Repeating it changes nothing.

MLflow has no compare-and-set, so a process that was paused between reading and writing writes late. It then finds
newer entries in the journal, and reverts its own write. As it may die before that, it first tags the entry that it
writes for, and the next process that syncs reverts what a tagged process wrote late. What a person moved in MLflow's
UI after the entry stays.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass

from registry.rules.canary import CANARY_SHARE, share_text
from registry.rules.chain import chain
from registry.rules.journal import WRITER, Entry, Move, run_links
from registry.rules.lifecycle import ALIASED, CANARY, LEFT, aliases_given_up
from registry.rules.listing import Listed
from registry.rules.replay import Holders, holders
from registry.rules.ui_moves import STAGES
from registry.store.store import Store

LATE_S = 600.0
"""How long a process's tag counts, in seconds. Its calls end much sooner, so one with an older tag is taken to have
died before it wrote, and its write for a person's: wrong only if it was paused for longer, wrote, and then died."""

Written = dict[str, str | None]
"""Alias → the version that was written as its holder; None when the alias was deleted. CANARY_SHARE → the share."""


def is_unfinished(last: Entry) -> bool:
    """Whether the entry's move has not been carried out to the end, as when its process died."""
    return last.link is not None and last.link.move.kind not in ("register", "baked") and not last.applied


def carry_out(store: Store, name: str, entries: Sequence[Entry]) -> None:
    """Brings MLflow in line with the last entry of a policy's chain."""
    last = entries[-1]
    if last.move.kind == "set":
        store.set_model_tags(name, last.move.settings or {})
        store.mark_applied(name, last.number)
        return
    writer = _begin(store, name, last)
    written = _write_aliases(store, name, last.move)
    _reconcile(store, name, entries, written, everything=last.move.kind == "seen")
    store.end_writing(name, last.number, writer)
    store.mark_applied(name, last.number)


@dataclass(frozen=True)
class LateWrites:
    """What a process wrote late and did not revert.

    Attributes:
        aliases: the aliases that it wrote, and the canary's share.
        stages: the versions whose legacy stage it wrote.
    """

    aliases: Written
    stages: list[str]

    def __bool__(self) -> bool:
        return bool(self.aliases or self.stages)


def late_writes(entries: Sequence[Entry], found: Listed, now: float) -> LateWrites:
    """Finds late writes: aliases and stages as an older entry had them, while a process may still write for one.

    Args:
        entries: the journal's chain.
        found: the policy in MLflow.
        now: seconds since 1970.
    """
    begun = [
        place for place, entry in enumerate(entries[:-1]) if any(_is_alive(t, now) for t in entry.writers.values())
    ]
    if not begun:
        return LateWrites({}, [])
    past = [holders(entries[:end]) for end in range(begun[0] + 1, len(entries))]
    wanted, held = holders(entries), found.holders | _share(found.share)
    now_wanted = _written_for(wanted)
    aliases = {mark: held.get(mark) for mark in (*ALIASED, CANARY_SHARE) if held.get(mark) != now_wanted.get(mark)}
    stages = {v.semver: STAGES[v.legacy_stage] for v in found.versions}
    return LateWrites(
        {mark: holder for mark, holder in aliases.items() if holder in [_written_for(was).get(mark) for was in past]},
        [v for v, stage in stages.items() if stage != wanted.stage(v) and stage in [was.stage(v) for was in past]],
    )


def revert(store: Store, name: str, entries: Sequence[Entry], late: LateWrites) -> None:
    """Replaces late writes with what the journal says, for processes that died before they could."""
    writer = _begin(store, name, entries[-1])
    _reconcile(store, name, entries, _restore_newer(store, name, entries, late.aliases), everything=True)
    store.end_writing(name, entries[-1].number, writer)
    for entry in entries[:-1]:
        for dead in entry.writers:
            store.end_writing(name, entry.number, dead)


def _begin(store: Store, name: str, entry: Entry) -> str:
    writer = WRITER + secrets.token_hex(8)
    store.begin_writing(name, entry.number, writer)
    return writer


def _is_alive(began: str, now: float) -> bool:
    """Whether a process that began at that time, seconds since 1970 as text, may still write."""
    try:
        return now - float(began) < LATE_S
    except ValueError:  # somebody edited it
        return False


def _reconcile(store: Store, name: str, entries: Sequence[Entry], written: Written, everything: bool) -> None:
    """Mirrors what was written to stages; replaces it by what newer entries say, until no newer one has come."""
    first = len(entries) - 1
    while True:
        moves = [entry.link.move for entry in entries[first:] if entry.link]
        moved = {holder for move in moves for holder in (move.version, move.displaced) if holder}
        store.mirror_stages(name, holders(entries).archived, None if everything else moved)
        later = chain([*entries, *store.journal(name, entries[-1].number)])
        if later[-1].number == entries[-1].number:
            return
        entries = later
        written |= _restore_newer(store, name, entries, written)


def _write_aliases(store: Store, name: str, move: Move) -> Written:
    held, written = store.holders(name), Written()
    # None when the version was deleted, or was moved in the UI and has no semantic version.
    version = store.find(name, move.version)
    takes = move.to in ALIASED and held.get(move.to) == move.displaced
    has_share = move.to == CANARY and (takes or held.get(CANARY) == move.version)
    lowers = has_share and (move.canary_share or 0.0) < (store.canary_share(name) or 0.0)
    if lowers:  # the lower share comes first, so that none but the version that it is for ever has the higher one
        written |= _write_share(store, name, move.canary_share)
    if version is not None and takes:
        store.set_alias(version, move.to)
        written[move.to] = move.version
    if has_share and not lowers and move.kind != "seen":
        written |= _write_share(store, name, move.canary_share)
    if move.to == LEFT + CANARY and CANARY not in held:  # taken away in MLflow's UI, where the share stays behind
        written |= _write_share(store, name, None)
    for alias in aliases_given_up(move.to):
        if held.get(alias) == move.version:
            # The share first: whoever goes on after a process that died finds by the alias that both are to go.
            written |= _write_share(store, name, None) if alias == CANARY else {}
            store.delete_alias(name, alias)
            written[alias] = None
    runs = run_links(move)
    if version is not None and runs:
        store.tag(version, "evidence", "\n".join(runs))
    return written


def _write_share(store: Store, name: str, share: float | None) -> Written:
    """Writes the canary's share, or removes it."""
    if share is None:
        store.delete_share(name)
    else:
        store.set_share(name, share)
    return {CANARY_SHARE: _share(share).get(CANARY_SHARE)}


def _share(share: float | None) -> dict[str, str]:
    """The share among what is written; none is as good as 0."""
    return {CANARY_SHARE: share_text(share)} if share else {}


def _written_for(wanted: Holders) -> dict[str, str]:
    """What is written where the journal says so."""
    return wanted.aliases | _share(wanted.share)


def _restore_newer(store: Store, name: str, entries: Sequence[Entry], written: Written) -> Written:
    """Replaces what was written, and not changed since, by what newer entries say; returns what it wrote instead."""
    wanted, held = _written_for(holders(entries)), store.holders(name)
    if CANARY_SHARE in written:
        held |= _share(store.canary_share(name))
    given: Written = {}
    lowers = float(wanted.get(CANARY_SHARE, 0)) < float(held.get(CANARY_SHARE, 0))
    for alias in sorted(written, key=lambda mark: (mark == CANARY_SHARE) != lowers):  # as in _write_aliases
        holder, theirs = written[alias], wanted.get(alias)
        if held.get(alias) != holder or theirs == holder:
            continue
        if alias == CANARY_SHARE:
            _write_share(store, name, None if theirs is None else float(theirs))
        elif theirs is None:
            store.delete_alias(name, alias)
        elif version := store.find(name, theirs):
            store.set_alias(version, alias)
        else:
            continue  # it was deleted
        given[alias] = theirs
    return given
