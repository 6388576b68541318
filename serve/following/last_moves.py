"""The journal's last moves, which the follower reads now and then for the server's page."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from carla_mlflow.escaping import escaped, one_line
from registry.rules.chain import chain
from registry.rules.journal import Entry, waived
from registry.rules.reference import parse_reference
from serve.run_folder import Followed, write_file

if TYPE_CHECKING:
    from registry.store.store import Store

MOVES_FILE = "moves.json"
MAX_MOVES = 12
"""Most moves that are kept, the last ones."""
EVERY_S = 60.0
"""Seconds between two looks into the journal, while the reference means the same version."""

log = logging.getLogger("serve.follow")


class ShownMove(msgspec.Struct, frozen=True):
    """One entry of the journal; see `registry.rules.journal.Move`. What people typed is escaped.

    Attributes:
        number: of the entry.
        when: seconds since 1970.
        kind: how the version was moved; empty for an entry that can't be read.
        version: that moved.
        to: the stage that it moved to.
        displaced: the version that held that stage before.
        share: of the episodes, in percent, in a move to canary.
        bake_s: how long it bakes, seconds.
        who: the person who moved it.
        why: the reason, in that person's words.
        waived: gates that were overruled, contract changes that were allowed.
    """

    number: int
    when: float
    kind: str
    version: str
    to: str
    displaced: str | None = None
    share: float | None = None
    bake_s: float | None = None
    who: str = ""
    why: str = ""
    waived: tuple[str, ...] = ()


class LastMoves(msgspec.Struct, frozen=True):
    """The content of the follower's file: the last moves, the latest first, and when the journal was read."""

    read_at: float
    moves: tuple[ShownMove, ...]


class MovesReader:
    """Keeps the file up to date. A registry that does not answer leaves it as it is."""

    def __init__(self, reference: str, folder: Path) -> None:
        """Starts.

        Args:
            reference: that the server follows, in a registry.
            folder: the server's run folder.
        """
        self._name = parse_reference(reference).name
        self._file = folder / MOVES_FILE
        self._entries: list[Entry] = []
        self._seen: object = None
        self._due = 0.0
        self._answered = True

    def look(self, registry: Callable[[], Store], followed: Followed) -> None:
        """Reads the journal if that is due: a minute has passed, or another version is followed.

        Args:
            registry: returns the store.
            followed: what the follower has just found.
        """
        seen = [(each.wanted, each.stage) for each in (*followed.answers, followed.canary) if each is not None]
        if followed.registry != "ok" or (seen == self._seen and time.monotonic() < self._due):
            return
        self._seen, self._due = seen, time.monotonic() + EVERY_S
        try:
            after = self._entries[-1].number if self._entries else 0
            self._entries += registry().journal(self._name, after)
        except Exception as error:  # whatever MLflow raises: what is followed is worth more
            if self._answered:  # once per outage, not once per look
                log.warning("the journal of %s could not be read: %s", self._name, one_line(error))
            self._answered = False
            return
        self._answered = True
        last = chain(self._entries)[-MAX_MOVES:]
        write_file(self._file, LastMoves(time.time(), tuple(map(shown_move, reversed(last)))))


def shown_move(entry: Entry) -> ShownMove:
    """An entry as the page shows it."""
    if entry.link is None:
        return ShownMove(entry.number, 0.0, "", "", "")
    move = entry.link.move
    return ShownMove(
        entry.number,
        move.when,
        move.kind,
        escaped(move.version),
        escaped(move.to),
        None if move.displaced is None else escaped(move.displaced),
        move.canary_share,
        move.bake.duration_s if move.bake else None,
        escaped(move.who),
        escaped(move.why),
        tuple(map(escaped, waived(move))),
    )
