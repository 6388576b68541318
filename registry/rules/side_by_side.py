"""Two cards beside each other, key by key. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import msgspec

from carla_mlflow.contract.card import Card

SECTIONS = {
    "what it is": ("name", "version", "description", "backend", "format"),
    "observation and memory": ("observation", "state"),
    "action": ("action",),
    "preprocessing and parity": ("preprocessing", "parity"),
    "how it was measured": ("metrics",),
    "how it was trained": ("training",),
    "files and hashes": ("files", "weights", "content"),
}
"""Heading → the card's keys below it."""


class Beside(NamedTuple):
    """One key of two cards.

    Attributes:
        place: the key, with those above it.
        old: its value in words; None where the card does not have it.
        new: likewise.
    """

    place: str
    old: str | None
    new: str | None

    @property
    def differs(self) -> bool:
        return self.old != self.new


def side_by_side(old: Card, new: Card) -> dict[str, list[Beside]]:
    """Heading of SECTIONS → its keys, in the order of the cards; headings without any are left out."""
    documents = old.to_dict(), new.to_dict()
    found = {}
    for heading, keys in SECTIONS.items():
        leaves = [{p: t for key in keys if key in each for p, t in _leaves(key, each[key])} for each in documents]
        places = dict.fromkeys([*leaves[0], *leaves[1]])
        if places:
            found[heading] = [Beside(place, leaves[0].get(place), leaves[1].get(place)) for place in places]
    return found


def _leaves(place: str, value: Any) -> Iterator[tuple[str, str]]:
    if isinstance(value, Mapping) and value:
        for key, item in value.items():
            yield from _leaves(f"{place}.{key}", item)
    else:
        yield place, value if isinstance(value, str) else msgspec.json.encode(value).decode()
