"""What drove, by the recording and by the registry's journal, and where they disagree. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from registry.rules.journal import Entry
from registry.rules.reference import Reference
from registry.rules.replay import Holders, holders
from registry.rules.versions import matching

FOLLOW_S = 60.0
"""Seconds that a server may need to follow a move; until then its version before agrees with the journal."""
CANARY = "canary"
"""The alias whose version may answer some episodes of the servers that follow another one."""
HOLD_S = 360.0
"""Seconds after a move for which the version before may answer the episodes that it began: `--episode-hold-s` and
FOLLOW_S, with the default of the first."""


class Span(msgspec.Struct, frozen=True):
    """When a version drove, between two moves of the journal.

    Attributes:
        digest: by the recording.
        version: semantic version, by the recording.
        rows: how many rows it answered.
        first: of the first row, nanoseconds since 1970.
        last: of the last row.
        journal: what the journal says of that time, in words; empty where it was not asked.
        disagrees: whether that is something else than the recording says.
    """

    digest: str
    version: str
    rows: int
    first: int
    last: int
    journal: str = ""
    disagrees: bool = False


class Journal(NamedTuple):
    """What the registry knows of a policy.

    Attributes:
        entries: of the journal, those that count.
        digests: semantic version → the digest that it was registered with.
        references: that the servers followed; empty where that is not known.
    """

    entries: Sequence[Entry]
    digests: Mapping[str, str]
    references: Sequence[Reference] = ()

    @property
    def aliases(self) -> list[str]:
        """The aliases that the servers followed."""
        return [each.value.lower() for each in self.references if each.kind in {"alias", "stage"}]

    def fixed(self, version: str) -> str:
        """The reference that names a version by itself, whatever the aliases are; empty where there is none."""
        return next((str(each) for each in self.references if _names(each, version)), "")


class Drove:
    """Counts the rows of each digest between the moves of a journal."""

    def __init__(self, journal: Journal | None) -> None:
        self._journal = journal
        moves = [entry.link.move.when for entry in journal.entries if entry.link] if journal else []
        self._times = np.maximum.accumulate(np.array(moves, np.float64))
        self._spans: dict[tuple[str, str, int], Span] = {}

    def add(self, digest: str, version: str, timestamp: NDArray[np.int64]) -> None:
        """Counts rows of one digest, (B,), nanoseconds since 1970."""
        places = np.searchsorted(self._times, timestamp / 1e9, side="right")
        for place in np.unique(places).tolist():
            times = timestamp[places == place]
            rows, first, last = len(times), int(times.min()), int(times.max())
            known = self._spans.get((digest, version, place))
            if known is not None:
                rows, first, last = rows + known.rows, min(first, known.first), max(last, known.last)
            self._spans[digest, version, place] = Span(digest, version, rows, first, last)

    def spans(self) -> list[Span]:
        """What drove when, in the order of time; neighbouring spans of which the journal says the same are one."""
        found: list[Span] = []
        for (_, _, place), span in sorted(self._spans.items(), key=lambda item: (item[1].first, item[0])):
            judged = self._judged(span, place)
            before = found[-1] if found else None
            if before is not None and _alike(before, judged):
                rows, last = before.rows + judged.rows, max(before.last, judged.last)
                found[-1] = msgspec.structs.replace(before, rows=rows, last=last)
            else:
                found.append(judged)
        return found

    def _judged(self, span: Span, place: int) -> Span:
        if self._journal is None:
            return span
        pinned = self._journal.digests.get(span.version)
        if pinned != span.digest:
            text = f"{span.version} is registered with {pinned}" if pinned else f"{span.version} is not registered"
            return msgspec.structs.replace(span, journal=text, disagrees=True)
        entries = [entry for entry in self._journal.entries if entry.link]
        now = holders(entries[:place])
        held, fixed = self._held(now, span.version), self._journal.fixed(span.version)
        if held or fixed:
            text = f"{span.version} held {held}" if held else f"the server was to serve {fixed}"
            return msgspec.structs.replace(span, journal=text)
        since = self._since_replaced(span, entries[:place])
        if since is not None:
            how = "being followed" if since <= FOLLOW_S else "answering its episodes"
            return msgspec.structs.replace(span, journal=f"replaced {since:.0f} s before, {how}")
        return msgspec.structs.replace(span, journal=_told(now, self._journal), disagrees=True)

    def _since_replaced(self, span: Span, entries: Sequence[Entry]) -> float | None:
        """Seconds from when its version was replaced to the span's end; None where that is longer than HOLD_S."""
        for place in reversed(range(len(entries))):  # the last ones may have moved others
            since = span.last / 1e9 - float(self._times[place])
            if since > HOLD_S:
                return None
            if self._held(holders(entries[:place]), span.version):
                return since
        return None

    def _held(self, then: Holders, version: str) -> str:
        """The aliases by which a version may have driven; empty for none."""
        assert self._journal is not None
        held = [alias for alias, holder in then.aliases.items() if holder == version]
        counts = {*self._journal.aliases, CANARY} if self._journal.references else held
        return " and ".join(alias for alias in held if alias in counts)


def _names(reference: Reference, version: str) -> bool:
    """Whether a reference without an alias may mean a version; by MLflow's number it may mean any."""
    if reference.kind in {"version", "range"}:
        return bool(matching(reference.value, [version]))
    return reference.kind == "number"


def _told(then: Holders, journal: Journal) -> str:
    """Who held the aliases that the servers followed, or all, in words."""
    if journal.aliases:
        return ", ".join(f"{alias} was {then.aliases.get(alias, 'held by none')}" for alias in journal.aliases)
    if journal.references:
        return f"the server was to serve {', '.join(map(str, journal.references))}"
    return (
        ", ".join(f"{alias} was {holder}" for alias, holder in sorted(then.aliases.items())) or "nothing held an alias"
    )


def _alike(one: Span, other: Span) -> bool:
    return (one.digest, one.version, one.journal) == (other.digest, other.version, other.journal)
