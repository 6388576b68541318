"""Appends a move to a policy's journal; of several processes that append at the same moment, one succeeds."""

from __future__ import annotations

import contextlib
import getpass
import os
import platform

import msgspec

from carla_mlflow.errors import RegistryError, UnreachableError
from registry.rules.chain import chain, next_link
from registry.rules.journal import Entry, Move, say
from registry.store.store import Store


def whoami() -> str:
    """The person or account that moves: MLflow's user name, else user@host."""
    return os.environ.get("MLFLOW_TRACKING_USERNAME") or f"{_user()}@{platform.node() or 'localhost'}"


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # a container's user may have no name
        return str(os.getuid())


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
