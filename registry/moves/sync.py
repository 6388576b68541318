"""Reads a policy's registry, and commits moves: the journal first, then the aliases, then the mirrored stages.

A process may die at any point. The next sync carries out an entry that was not applied; a move without an entry did
not happen.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import msgspec

from carla_mlflow.errors import RefusedError
from registry.moves.append import append, whoami
from registry.moves.apply import carry_out, is_unfinished, late_writes, revert
from registry.moves.describe import describe
from registry.moves.state import RegistryState
from registry.rules.chain import chain
from registry.rules.journal import Entry, Move
from registry.rules.lifecycle import ALIASED, ARCHIVED, CANARY, CANDIDATE, check_expected
from registry.rules.listing import Listed
from registry.rules.replay import Holders, holders
from registry.rules.ui_moves import SeenMove, seen_moves, seen_share
from registry.store.store import Store

MADE_IN_MLFLOW = "found in MLflow without an entry in the journal"
ATTEMPTS = 100
"""How many tries may fail before the command gives up; each fails because another process succeeded."""


def sync(
    store: Store, name: str, notify: Callable[[Entry], None] = lambda _: None, describes: bool = True
) -> RegistryState:
    """Reads a policy's registry, finishes what a dead process began, and journals what was moved in MLflow's UI.

    Args:
        store: the registry.
        name: the policy's name.
        notify: called with every entry made for a change in MLflow.
        describes: whether to write the descriptions of versions that were moved there; a move that is to come may be
            urgent, and these take fetching artifacts.

    Raises:
        NotFoundError: there is no such policy.
    """
    undescribed: list[str] = []
    for _ in range(ATTEMPTS):
        every = store.journal(name)
        entries = chain(every)
        if entries and is_unfinished(entries[-1]):
            carry_out(store, name, entries)
            continue
        journal = holders(entries)
        found = store.listed(name)
        versions = found.versions
        seen = seen_moves(journal, found.holders, versions, found.share)
        _mark_lost_entries(store, name, every, entries)
        late = late_writes(entries, found, time.time())
        if late:
            revert(store, name, entries, late)
        elif moves := _unrecorded_moves(journal, entries, found, seen):
            entered = _record(store, name, entries, moves, notify)
            moved = [version for each in entered for version in (each.move.version, each.move.displaced) if version]
            if describes:
                describe(store, name, moved, [*entries, *entered])
            else:
                undescribed += moved
        elif any(version.shown != journal.stage(version.semver) for version in versions):
            store.mirror_stages(name, journal.archived)  # somebody edited the tag, which only displays the stage
        else:
            return RegistryState(name, entries, journal, versions, found, tuple(undescribed))
    raise RefusedError(f"{name}: other processes keep changing its versions or stages; try again")


def _mark_lost_entries(store: Store, name: str, every: Sequence[Entry], kept: Sequence[Entry]) -> None:
    """Marks entries that lost a race as void, since an unmarked one would count if the winning entry was removed."""
    counted = {entry.number for entry in kept}
    for entry in every:
        if entry.link and not (entry.is_void or entry.is_foreign or entry.number in counted):
            store.mark_void(name, entry.number)


def _unrecorded_moves(
    journal: Holders, entries: Sequence[Entry], found: Listed, seen: Sequence[SeenMove]
) -> list[Move]:
    """Moves that no entry records: versions that MLflow copied from another model, then what people moved in its UI.

    MLflow's copy of an archived version carries the tag, and so counts as archived too.
    """
    claimed = {entry.link.move.version for entry in entries if entry.link and entry.link.move.kind == "register"}
    made = [version for version in found.versions if version.semver not in claimed]
    archived = [(v.semver, ARCHIVED) for v in made if v.stage == ARCHIVED and (v.semver, ARCHIVED) not in seen]
    register = Move("register", "", CANDIDATE, None, whoami(), time.time(), MADE_IN_MLFLOW)
    moves = [msgspec.structs.replace(register, version=v.semver, identity=v.identity or v.digest) for v in made]
    for version, to in [*archived, *seen]:
        share = seen_share(journal, version, found.share) if to == CANARY else msgspec.UNSET
        moves.append(Move("seen", version, to, journal.aliases.get(to), register.who, register.when, share=share))
    return moves


def _record(
    store: Store, name: str, entries: list[Entry], moves: Sequence[Move], notify: Callable[[Entry], None]
) -> list[Entry]:
    """Journals all moves seen in MLflow before it mirrors any, as mirroring overwrites what shows the others."""
    entered: list[Entry] = []
    for move in moves:
        entry = append(store, name, [*entries, *entered], move)
        if entry is None:  # another process entered it
            break
        entered.append(entry)
    for number, entry in enumerate(entered, 1):
        if is_unfinished(entry):
            carry_out(store, name, [*entries, *entered[:number]])
        notify(entry)
    return entered


def commit(
    store: Store,
    state: RegistryState,
    move: Move,
    check: Callable[[RegistryState], None] = lambda _: None,
    expect: str | None = None,
) -> Entry:
    """Enters a move into the journal and carries it out.

    Args:
        store: the registry.
        state: the state that the gates were evaluated on.
        move: its `displaced` must still hold `to`.
        check: raises RefusedError when the move is no longer allowed.
        expect: as in `check_expected`; checked first when another move came in between.

    Raises:
        RefusedError: another move came in between.
    """
    for _ in range(ATTEMPTS):
        if not state.is_current(store):
            state = sync(store, state.name)
        check(state)
        if move.to in ALIASED and state.holder(move.to) != move.displaced:
            check_expected(expect, state.holder(move.to), move.to)
            raise RefusedError(
                f"{move.to} is held by {state.holder(move.to) or 'none'}, not by {move.displaced or 'none'}: "
                "somebody moved it meanwhile; read the history, then try again"
            )
        entry = append(store, state.name, state.entries, move)
        if entry is not None:
            if is_unfinished(entry):
                carry_out(store, state.name, [*state.entries, entry])
            return entry
    raise RefusedError(f"{state.name}: other processes keep changing its versions or stages; try again")
