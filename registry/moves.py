"""Looking at a policy's registry, and committing a move: the journal first, then the aliases, then the mirrors.

A process may die anywhere between. An entry that was not applied is carried out by whoever looks next; what was not
entered did not happen.
"""

from __future__ import annotations

import contextlib
import getpass
import os
import platform
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import msgspec

from carla_mlflow.errors import NotFoundError, RefusedError, RegistryError
from registry.journal import OVERRULED, Entry, Move, chain, next_link, say
from registry.lifecycle import ALIASED, ARCHIVED, CANDIDATE, check_expected
from registry.policy_version import PolicyVersion
from registry.replay import Holders, holders
from registry.seen import seen_moves
from registry.store import Store

ATTEMPTS = 100
"""Looks and appends that may lose to other writers before a person is asked to look; each loses to one that won."""


@dataclass(frozen=True)
class Standing:
    """A policy's registry at one look.

    Attributes:
        name: of the policy.
        entries: the journal's chain.
        holders: who holds what; the journal and MLflow agree.
        versions: oldest first.
    """

    name: str
    entries: list[Entry]
    holders: Holders
    versions: list[PolicyVersion]

    def holder(self, alias: str) -> str | None:
        return self.holders.aliases.get(alias)

    def version(self, semver: str) -> PolicyVersion:
        """Raises NotFoundError when it has been deleted."""
        for version in self.versions:
            if version.semver == semver:
                return version
        raise NotFoundError(f"{self.name}: {semver} is no longer there")


def whoami() -> str:
    """Who moves: MLflow's user name, else user@host."""
    return os.environ.get("MLFLOW_TRACKING_USERNAME") or f"{_user()}@{platform.node() or 'localhost'}"


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # a container's user without a name
        return str(os.getuid())


def look(store: Store, name: str, write: bool = True, told: Callable[[Entry], None] = lambda _: None) -> Standing:
    """Reads a policy's registry, ends what a dead process began, and journals what was moved in MLflow's UI.

    Args:
        store: the registry.
        name: of the policy.
        write: False writes nothing; what MLflow says now is then taken as it is.
        told: hears of every entry made for a move in the UI.

    Raises:
        NotFoundError: no such policy.
    """
    for _ in range(ATTEMPTS):
        entries = chain(store.journal(name))
        if write and entries and _is_unfinished(entries[-1]):
            _apply(store, name, entries)
            continue
        journal = holders(entries)
        versions, held = store.versions(name), store.holders(name)
        moves = seen_moves(journal, held, versions)
        if not moves:
            return Standing(name, entries, journal, versions)
        if not write:
            return Standing(name, entries, replace(journal, aliases=held), versions)
        version, to = moves[0]
        move = Move("seen", version, to, journal.aliases.get(to), whoami(), time.time())
        entry = append(store, name, entries, move)
        if entry is not None:  # else another watcher wrote it
            _apply(store, name, [*entries, entry])
            told(entry)
    raise RefusedError(f"{name}: moved by others faster than it can be read; look again")


def _is_unfinished(last: Entry) -> bool:
    return last.link is not None and last.link.move.kind != "register" and not last.applied


def commit(store: Store, standing: Standing, move: Move, expect: str | None = None) -> Entry:
    """Enters a move into the journal and carries it out.

    Args:
        store: the registry.
        standing: what the move was judged by.
        move: its `displaced` has to hold `to` still.
        expect: see `check_expected`; said of a move that was overtaken.

    Raises:
        RefusedError: somebody moved it meanwhile.
    """
    for _ in range(ATTEMPTS):
        standing = look(store, standing.name)
        if move.to in ALIASED and standing.holder(move.to) != move.displaced:
            check_expected(expect, standing.holder(move.to), move.to)
            raise RefusedError(
                f"{move.to} is held by {standing.holder(move.to) or 'none'}, not by {move.displaced or 'none'}: "
                "someone has moved it meanwhile; look, and move again"
            )
        entry = append(store, standing.name, standing.entries, move)
        if entry is not None:
            _apply(store, standing.name, [*standing.entries, entry])
            return entry
    raise RefusedError(f"{standing.name}: moved by others faster than it can be read; try again")


def append(store: Store, name: str, entries: list[Entry], move: Move) -> Entry | None:
    """The entry, or None when another was written after the same one before it."""
    if entries:
        move = _not_before(move, entries[-1])
    link = next_link(entries, move)
    text = say(Entry(0, link, link.to_bytes().decode(), link.hash, False)).split(maxsplit=1)[1]
    number = store.append(name, link, text)
    for entry in chain(store.journal(name)):
        if entry.number == number:
            return entry
    with contextlib.suppress(RegistryError):  # void already; this only tidies up
        store.delete_entry(name, number)
    return None


def _not_before(move: Move, last: Entry) -> Move:
    """A clock that was set back must not put an entry before its predecessor."""
    when = max(move.when, last.link.move.when if last.link else 0.0)
    return msgspec.structs.replace(move, when=when)


def _apply(store: Store, name: str, entries: list[Entry]) -> None:
    """Carries out the last entry: once or again, it is the same."""
    move, target = entries[-1].move, holders(entries)
    held = store.holders(name)
    # None when it was deleted, or has no semantic version and was moved in the UI.
    version = next((v for v in store.versions(name) if v.semver == move.version), None)
    if version is not None and move.to in ALIASED and held.get(move.to) != move.version:
        store.set_alias(version, move.to)
    runs = [text for text in move.evidence if not text.startswith(OVERRULED)]
    if version is not None and runs:
        store.tag(version, "evidence", "\n".join(runs))
    if move.to in {ARCHIVED, CANDIDATE}:
        for alias in [alias for alias, holder in held.items() if holder == move.version]:
            store.delete_alias(name, alias)
    store.mirror_stages(name, target.archived)
    store.mark_applied(name, entries[-1].number)
