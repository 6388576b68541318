"""Changes the settings of a policy's gates: journalled first, then written as tags of the registered model."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping

from registry.moves.append import whoami
from registry.moves.state import RegistryState
from registry.moves.sync import commit, sync
from registry.rules.journal import Entry, Move
from registry.rules.lifecycle import PRODUCTION, check_protected
from registry.store.store import Store


def set_gates(store: Store, name: str, settings: Mapping[str, str], reason: str) -> Entry | None:
    """Sets tags; the journal's entry, or None when all of them were so already.

    Args:
        store: the registry.
        name: the policy's.
        settings: tag → value; empty to remove the tag.
        reason: in words, for the journal.

    Raises:
        NotFoundError: there is no such policy.
        RefusedError: production is protected from whoever runs this.
    """
    state, tags = sync(store, name), store.model_tags(name)
    changed = {tag: value for tag, value in settings.items() if tags.get(tag, "") != value}
    if not changed:
        return None
    was = tuple(f"before: {tag} = {tags.get(tag) or 'default'}" for tag in sorted(changed))
    move = Move("set", "", "", None, whoami(), time.time(), reason, was, settings=changed)
    return commit(store, state, move, lambda _: check_protected(store.model_tags(name), PRODUCTION, whoami()))


def journalled_settings(state: RegistryState) -> dict[str, str]:
    """Tag → the value that the journal gave it last; empty for the default."""
    return _settings(state.entries)


def _settings(entries: Iterable[Entry]) -> dict[str, str]:
    found: dict[str, str] = {}
    for entry in entries:
        if entry.link and entry.link.move.kind == "set":
            found |= entry.link.move.settings or {}
    return found
