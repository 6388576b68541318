"""Carrying out the journal's last entry: the aliases, the mirrors, the mark. Once or again, it is the same.

MLflow has no compare-and-set: a process that was stopped between looking and writing writes late. It then finds that
the journal went on, and takes its own write back. What a person moved in MLflow's UI after the entry stays.
"""

from __future__ import annotations

from registry.journal import MARGINS, OVERRULED, Entry, Move, chain
from registry.lifecycle import ALIASED, ARCHIVED, CANDIDATE, LEFT
from registry.replay import holders
from registry.store import Store


def is_unfinished(last: Entry) -> bool:
    """Whether the process that wrote the entry died before it had carried it out."""
    return last.link is not None and last.link.move.kind != "register" and not last.applied


def carry_out(store: Store, name: str, entries: list[Entry]) -> None:
    """Brings MLflow in line with the last entry of a policy's chain."""
    last = entries[-1]
    written = _write_aliases(store, name, last.move)
    store.mirror_stages(name, holders(entries).archived)
    now = chain(store.journal(name))
    if now[-1].number != last.number:
        _give_way(store, name, now, written)
    store.mark_applied(name, last.number)


def _write_aliases(store: Store, name: str, move: Move) -> dict[str, str | None]:
    """What was written: alias → who holds it by that, None for nobody."""
    held, written = store.holders(name), dict[str, str | None]()
    # None when it was deleted, or has no semantic version and was moved in the UI.
    version = next((v for v in store.versions(name) if v.semver == move.version), None)
    if version is not None and move.to in ALIASED and held.get(move.to) == move.displaced:
        store.set_alias(version, move.to)
        written[move.to] = move.version
    for alias in _leaves(move):
        if held.get(alias) == move.version:
            store.delete_alias(name, alias)
            written[alias] = None
    runs = [text for text in move.evidence if not text.startswith((OVERRULED, MARGINS))]
    if version is not None and runs:
        store.tag(version, "evidence", "\n".join(runs))
    return written


def _leaves(move: Move) -> tuple[str, ...]:
    if move.to in {ARCHIVED, CANDIDATE}:
        return ALIASED
    return (move.to.removeprefix(LEFT),) if move.to.startswith(LEFT) else ()


def _give_way(store: Store, name: str, entries: list[Entry], written: dict[str, str | None]) -> None:
    """Others moved on before the aliases were written: where the writing still stands, theirs is put in its place."""
    journal, held = holders(entries), store.holders(name)
    versions = {version.semver: version for version in store.versions(name)}
    for alias, holder in written.items():
        wanted = journal.aliases.get(alias)
        if held.get(alias) != holder or wanted == holder:
            continue
        if wanted is None:
            store.delete_alias(name, alias)
        elif wanted in versions:
            store.set_alias(versions[wanted], alias)
    store.mirror_stages(name, journal.archived)
