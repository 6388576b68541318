"""What one process of the shadow leaves to the next: a part of its report, as the two are written in one piece."""

from __future__ import annotations

import msgspec

from serve.telemetry.shadow_report import Counts, ShadowReport


class SavedPair(msgspec.Struct):
    """A pair as it is saved; `card` is the champion's model_card.yaml."""

    card: bytes
    digest: str
    comparison: bytes
    rows: int
    disagreements: int
    skipped: int
    run: str | None


class SavedTally(msgspec.Struct):
    """A tally as it is saved."""

    digest: str = ""
    counts: Counts = msgspec.field(default_factory=Counts)
    skipped: dict[str, int] = {}
    pairs: list[SavedPair] = []


class Saved(msgspec.Struct):
    """What the next process goes on from.

    Attributes:
        tally: what was found.
        positions: name of a ring → the next row to read.
        held: rows that were read and not compared yet.
        has_ended: whether the process ended by itself; else it may have been the next rows that killed it.
    """

    tally: SavedTally = msgspec.field(default_factory=SavedTally)
    positions: dict[str, int] = {}
    held: int = 0
    has_ended: bool = False


class SavedReport(ShadowReport, kw_only=True):
    """The report as its process reads it again; the server's other processes have no use for `saved`."""

    saved: Saved = msgspec.field(default_factory=Saved)
