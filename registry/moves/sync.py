"""Reads a policy's registry, and commits moves: the journal first, then the aliases, then the mirrored stages.

A process may die at any point. The next sync carries out an entry that was not applied; a move without an entry did
not happen.
"""

from __future__ import annotations

import contextlib
import getpass
import os
import platform
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import msgspec

from carla_mlflow.errors import NotFoundError, RefusedError, RegistryError, UnreachableError
from registry.moves.apply import carry_out, is_unfinished, late_writes, revert
from registry.rules.journal import Entry, Move, chain, next_link, say
from registry.rules.lifecycle import ALIASED, ARCHIVED, CANDIDATE, check_expected
from registry.rules.listing import Listed
from registry.rules.policy_version import PolicyVersion
from registry.rules.replay import Holders, holders
from registry.rules.ui_moves import SeenMove, seen_moves
from registry.store.store import Store

MADE_IN_MLFLOW = "found in MLflow; no entry told of it"
ATTEMPTS = 100
"""How many tries may fail before the command gives up; each fails because another process succeeded."""


@dataclass(frozen=True)
class RegistryState:
    """A policy's registry as read at one moment.

    Attributes:
        name: the policy's name.
        entries: the journal's chain.
        holders: which version holds what; after `sync`, the journal and MLflow agree.
        versions: oldest first.
        found: what MLflow listed; None when the policy is not registered yet, and from `read_state`.
    """

    name: str
    entries: list[Entry]
    holders: Holders
    versions: list[PolicyVersion]
    found: Listed | None = None

    def is_current(self, store: Store) -> bool:
        """Whether nothing has been moved since it was read."""
        after = self.entries[-1].number if self.entries else 0
        return (
            self.found is not None and not store.journal(self.name, after) and store.is_unchanged(self.name, self.found)
        )

    def holder(self, alias: str) -> str | None:
        return self.holders.aliases.get(alias)

    def stage(self, semver: str) -> str:
        """A version's stage in the journal, whatever its tags say."""
        return self.holders.stage(semver)

    def version(self, semver: str) -> PolicyVersion:
        """The version with that semantic version; raises NotFoundError when it was deleted."""
        for version in self.versions:
            if version.semver == semver:
                return version
        raise NotFoundError(f"{self.name}: {semver} is no longer there")


def whoami() -> str:
    """The person or account that moves: MLflow's user name, else user@host."""
    return os.environ.get("MLFLOW_TRACKING_USERNAME") or f"{_user()}@{platform.node() or 'localhost'}"


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # a container's user may have no name
        return str(os.getuid())


def read_state(store: Store, name: str) -> RegistryState:
    """Reads a policy's registry and writes nothing; where the journal differs, MLflow's aliases are taken.

    Raises:
        NotFoundError: there is no such policy.
    """
    entries = chain(store.journal(name))
    journal, found = holders(entries), store.listed(name)
    if seen_moves(journal, found.holders, found.versions):
        journal = replace(journal, aliases=found.holders)
    return RegistryState(name, entries, journal, found.versions)


def sync(store: Store, name: str, notify: Callable[[Entry], None] = lambda _: None) -> RegistryState:
    """Reads a policy's registry, finishes what a dead process began, and journals what was moved in MLflow's UI.

    Args:
        store: the registry.
        name: the policy's name.
        notify: called with every entry made for a change in MLflow.

    Raises:
        NotFoundError: there is no such policy.
    """
    for _ in range(ATTEMPTS):
        every = store.journal(name)
        entries = chain(every)
        if entries and is_unfinished(entries[-1]):
            carry_out(store, name, entries)
            continue
        journal = holders(entries)
        found = store.listed(name)
        versions = found.versions
        seen = seen_moves(journal, found.holders, versions)
        _mark_lost_entries(store, name, every, entries)
        late = late_writes(entries, found, time.time())
        if late:
            revert(store, name, entries, late)
        elif moves := _unrecorded_moves(journal, entries, found, seen):
            _record(store, name, entries, moves, notify)
        elif any(version.shown != journal.stage(version.semver) for version in versions):
            store.mirror_stages(name, journal.archived)  # somebody edited the tag, which only displays the stage
        else:
            return RegistryState(name, entries, journal, versions, found)
    raise RefusedError(f"{name}: moved by others faster than it can be read; look again")


def _mark_lost_entries(store: Store, name: str, every: Sequence[Entry], kept: Sequence[Entry]) -> None:
    """Marks lost entries as void for processes that died first; unmarked, they could count after a removal."""
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
        moves.append(Move("seen", version, to, journal.aliases.get(to), register.who, register.when))
    return moves


def _record(
    store: Store, name: str, entries: list[Entry], moves: Sequence[Move], notify: Callable[[Entry], None]
) -> None:
    """Enters everything done in MLflow before mirroring any of it, as mirroring overwrites the traces."""
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
                "somebody moved it meanwhile; look at the history, then try again"
            )
        entry = append(store, state.name, state.entries, move)
        if entry is not None:
            carry_out(store, state.name, [*state.entries, entry])
            return entry
    raise RefusedError(f"{state.name}: moved by others faster than it can be read; try again")


def append(store: Store, name: str, entries: list[Entry], move: Move) -> Entry | None:
    """Writes an entry and returns it; None when another entry with the same predecessor was written first."""
    if entries:
        move = _not_before(move, entries[-1])
    link = next_link(entries, move)
    text = say(Entry(0, link, link.to_bytes().decode(), link.hash, False)).split(maxsplit=1)[1]
    shown = f"`{text.replace('`', chr(39))}`"  # MLflow's page renders Markdown, images and links included
    number = store.append(name, link, shown)
    for entry in chain([*entries, *store.journal(name, link.after)]):
        if entry.number == number:
            return entry
    with contextlib.suppress(RegistryError, UnreachableError):  # void even without the mark
        store.mark_void(name, number)
    return None


def _not_before(move: Move, last: Entry) -> Move:
    """The move, dated no earlier than the entry before it, as a clock may have been set back."""
    when = max(move.when, last.link.move.when if last.link else 0.0)
    return msgspec.structs.replace(move, when=when)
