"""The history of a policy's versions: a chain of entries, each holding the hash of the one before. Pure.

An entry is an MLflow version of the registered model `NAME.journal`; its number there is handed out once. Of two that
were written after the same entry, the one with the lower number is the next, and the other is void: so an entry's
creation is a move's commit, and exactly one writer wins (docs/adr/0010).
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import msgspec

from carla_mlflow.errors import RegistryError
from carla_mlflow.escaping import escaped

Kind = Literal["register", "promote", "rollback", "archive", "seen"]
NOBODY = "sha256:" + "0" * 64
"""Stands for the hash before the first entry."""
MAX_TEXT = 1000
"""Characters of a reason: MLflow keeps at most some thousands in a tag."""
WRITER = "writing."
"""Begins the tag of an entry by which a process says that it writes aliases for it."""
OVERRULED = "overruled: "
"""Begins what a move's evidence tells of a gate that said no."""
ALLOWED = "allowed: "
"""Begins what it tells of a change of the contract that `--allow-breaking` let pass."""
MARGINS = "margins: "
"""Begins what it tells of the margins that its driving was judged by."""


class Move(msgspec.Struct, frozen=True):
    """What happened. `seen`: in MLflow's UI, at some time since the look before.

    Attributes:
        kind: of the move.
        version: semantic version that moved.
        to: the stage that it moved to.
        displaced: who held that stage before; None for nobody.
        who: did it, or saw it.
        when: seconds since 1970, by the clock of whoever wrote the entry.
        why: in the words of who did it.
        evidence: what it was judged by: MLflow runs, the margins, the changes of the contract that were allowed, the
            shortfalls that were overruled.
        identity: of the artifact that was registered; see `identity_of`.
    """

    kind: Kind
    version: str
    to: str
    displaced: str | None
    who: str
    when: float
    why: str = ""
    evidence: tuple[str, ...] = ()
    identity: str = ""


class Link(msgspec.Struct, frozen=True):
    """A move in its place: after which entry, whose hash was what."""

    move: Move
    after: int
    previous: str

    def to_bytes(self) -> bytes:
        """Canonical JSON: what is hashed and what is stored are the same bytes."""
        return msgspec.json.encode(self, order="deterministic")

    @property
    def hash(self) -> str:
        return "sha256:" + hashlib.sha256(self.to_bytes()).hexdigest()


@dataclass(frozen=True)
class Entry:
    """A stored link.

    Attributes:
        number: as MLflow handed it out.
        link: what it says; None when it can't be read.
        text: as stored.
        stored_hash: the hash written beside it.
        applied: whether the move's alias and stages were written after the entry.
        is_void: whether it says of itself that it lost a race.
        is_foreign: whether it is no entry but a model that somebody logged under the journal's name.
        writers: of a process that began to write aliases for it, and has not said that it is done → when it began, as
            text, seconds since 1970.
    """

    number: int
    link: Link | None
    text: str
    stored_hash: str
    applied: bool
    is_void: bool = False
    is_foreign: bool = False
    writers: Mapping[str, str] = field(default_factory=dict)

    @property
    def hash(self) -> str:
        return "sha256:" + hashlib.sha256(self.text.encode()).hexdigest()

    @property
    def move(self) -> Move:
        if self.link is None:
            raise RegistryError(f"journal entry {self.number} can't be read: it was edited; see history --check")
        return self.link.move


def read_entry(number: int, text: str, stored_hash: str, applied: bool, **marks: Any) -> Entry:
    """An entry from what MLflow keeps of it; `marks` are the Entry's further attributes."""
    try:
        link = msgspec.json.decode(text, type=Link)
    except (msgspec.DecodeError, msgspec.ValidationError):
        link = None
    return Entry(number, link, text, stored_hash, applied, **marks)


def chain(entries: Iterable[Entry]) -> list[Entry]:
    """The entries that count, in order: without those that lost to another written after the same entry.

    An unreadable entry, or one whose predecessor is gone, still counts: `problems` tells of it. Where an entry is gone
    it may have been the one that another lost to: who says of itself that it is void stays so, unless another was
    written after it.
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
    """The link that puts a move behind a chain."""
    return Link(move, entries[-1].number, entries[-1].hash) if entries else Link(move, 0, NOBODY)


def problems(entries: Sequence[Entry], head: str | None = None, numbers: Collection[int] = ()) -> list[str]:
    """What is wrong with a chain, in words; nothing for one that is whole.

    Args:
        entries: from `chain`.
        numbers: of every entry that is there, those that do not count too. MLflow hands each number out once, so one
            that is missing was removed.
        head: the hash of the last entry as somebody noted it elsewhere. Without it an entry that was cut off at the
            end, or a chain that was written anew from its beginning, can't be told.
    """
    found: list[str] = []
    told: set[int] = set()
    number, previous = 0, NOBODY
    for entry in entries:
        if entry.link is None or entry.hash != entry.stored_hash:
            found.append(f"entry {entry.number} was edited: its text does not have the hash that stands beside it")
        elif entry.link.after != number:
            found.append(f"entry {entry.link.after}, before entry {entry.number}, was removed")
            told.add(entry.link.after)
        elif entry.link.previous != previous:
            found.append(
                f"entry {number or 'before the first'} was edited: entry {entry.number} knew another hash of it"
            )
        number, previous = entry.number, entry.hash
    gone = sorted(set(range(1, max(numbers, default=0))) - set(numbers) - told)
    found += [f"entry {number} was removed" for number in gone]
    if head is not None and head not in {entry.hash for entry in entries}:
        found.append(f"no entry has the hash {head}: entries were cut off at the end, or the chain was written anew")
    return found


def let_pass(move: Move) -> list[str]:
    """What somebody let pass by `--force` or `--allow-breaking`, each as it is kept."""
    return [text for text in move.evidence if text.startswith((OVERRULED, ALLOWED))]


def run_links(move: Move) -> list[str]:
    """The MLflow runs that a move was judged by, each as it is kept."""
    return [text for text in move.evidence if not text.startswith((OVERRULED, ALLOWED, MARGINS))]


def say(entry: Entry) -> str:
    """An entry as a line for a person; what somebody typed ends neither the line nor its place in it."""
    if entry.link is None:
        return f"{entry.number:>4}  can't be read: it was edited; see history --check"
    move = entry.link.move
    when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(move.when))
    held = f" (was {_word(move.displaced)})" if move.displaced else ""
    version, to = _word(move.version), _word(move.to)
    seen = "seen in MLflow's UI: " if move.kind == "seen" else ""
    what = f"{version} registered" if move.kind == "register" else f"{version} → {to}{held}"
    verb = "" if move.kind in {"seen", "register"} else f"{move.kind}: "
    why = f"  “{_word(move.why)}”" if move.why else ""
    for how in (ALLOWED, OVERRULED):
        gates = dict.fromkeys(
            _word(text[len(how) :].partition(":")[0]) for text in let_pass(move) if text[: len(how)] == how
        )
        why += f"  {how}{', '.join(gates)}" if gates else ""
    return f"{entry.number:>4}  {when}  {seen}{verb}{what}  by {_word(move.who)}{why}"


def _word(text: str) -> str:
    """Escaped, the marks of a quotation too."""
    return escaped(text).replace("“", "\\u201c").replace("”", "\\u201d")
