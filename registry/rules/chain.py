"""The chain of a journal's entries: which entries count, the next link, and what is wrong with a chain. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

from registry.rules.journal import Entry, Link, Move

NO_PREVIOUS_HASH = "sha256:" + "0" * 64
"""The previous hash of the first entry."""


def chain(entries: Iterable[Entry]) -> list[Entry]:
    """The entries that count, in order: without those that lost to another with the same predecessor.

    An unreadable entry, or one whose predecessor is gone, still counts: `problems` reports it. After a
    gap, a void entry may have lost to the missing one: it stays void unless another entry names it as its predecessor.
    """
    every = sorted(entries, key=lambda e: e.number)
    named = {entry.link.after for entry in every if entry.link}
    kept: list[Entry] = []
    before, is_gap = 0, False
    for entry in every:
        is_gap |= entry.number != before + 1
        before = entry.number
        is_revived = is_gap and entry.is_void and entry.number not in named
        last = kept[-1].number if kept else 0
        if not entry.is_foreign and (entry.link is None or (entry.link.after >= last and not is_revived)):
            kept.append(entry)
            is_gap = False
    return kept


def next_link(entries: Sequence[Entry], move: Move) -> Link:
    """The link that appends a move to a chain."""
    return Link(move, entries[-1].number, entries[-1].hash) if entries else Link(move, 0, NO_PREVIOUS_HASH)


def problems(entries: Sequence[Entry], head: str | None = None, numbers: Collection[int] = ()) -> list[str]:
    """What is wrong with a chain, in words; empty for an intact one.

    Args:
        entries: from `chain`.
        head: the hash of the last entry, noted elsewhere earlier. Without it, entries cut off at the end, or a chain
            rewritten from its beginning, can't be detected.
        numbers: the numbers of all stored entries, void ones too. MLflow hands each number out once, so a missing one
            was removed.
    """
    broken: list[str] = []
    reported: set[int] = set()
    number, previous = 0, NO_PREVIOUS_HASH
    for entry in entries:
        if entry.link is None or entry.hash != entry.stored_hash:
            broken.append(f"entry {entry.number} was edited: its text does not have the hash stored beside it")
        elif entry.link.after != number:
            broken.append(f"entry {entry.link.after}, before entry {entry.number}, was removed")
            reported.add(entry.link.after)
        elif entry.link.previous != previous:
            if number:
                broken.append(f"entry {number} was edited: its hash is not the one that entry {entry.number} recorded")
            else:
                broken.append(
                    f"entry {entry.number} was edited: it is the first entry, but records the hash of an earlier one"
                )
        number, previous = entry.number, entry.hash
    gone = sorted(set(range(1, max(numbers, default=0))) - set(numbers) - reported)
    broken += [f"entry {number} was removed" for number in gone]
    if head is not None and head not in {entry.hash for entry in entries}:
        broken.append(f"no entry has the hash {head}: entries were cut off at the end, or the chain was rewritten")
    return broken
