"""The history of a policy's versions: a chain of entries, each holding the hash of the one before. Pure.

An entry is an MLflow version of the registered model `NAME.journal`; MLflow hands each number out once. Of two entries
with the same predecessor, the one with the lower number counts and the other is void: so creating an entry commits a
move, and exactly one writer wins (docs/adr/0010).
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import msgspec

from carla_mlflow.errors import RegistryError
from carla_mlflow.escaping import escaped
from registry.rules.alarms import Bar
from registry.rules.canary import share_text
from registry.rules.durations import say_duration
from registry.rules.judged import Judged

Kind = Literal["register", "promote", "rollback", "archive", "seen", "baked", "set"]
NOTES = ("baked", "set")
"""Kinds of entries that move no version: a bake that ended well, and settings of gates."""
MAX_TEXT = 1000
"""The longest reason, in characters: an MLflow tag holds a few thousand."""
WRITER = "writing."
"""Prefix of the entry's tag by which a process marks that it is writing aliases for the entry."""
OVERRULED = "overruled: "
"""Prefix, in a move's evidence, of a failed gate that `--force` overruled."""
ALLOWED = "allowed: "
"""Prefix, in a move's evidence, of a contract change that `--allow-breaking` let pass."""
MARGINS = "margins: "
"""Prefix, in a move's evidence, of the margins that the driving gate used."""
WATCHED = "alarm "
"""Prefix, in the evidence of a roll-back or a bake's end, of what an alarm's looks found."""


class Bake(msgspec.Struct, frozen=True):
    """How long a version that was promoted is watched, and the alarms by which it is rolled back.

    Attributes:
        duration_s: from the move on, seconds.
        bars: the alarms.
    """

    duration_s: float
    bars: tuple[Bar, ...]


class Move(msgspec.Struct, frozen=True):
    """One move of a version.

    Attributes:
        kind: how it was moved; `seen`: in MLflow's UI, at an unknown time since the sync before. `baked`: it was not
            moved, its bake ended well. `set`: no version was moved, settings of the gates were changed.
        version: the semantic version that moved; empty for `set`.
        to: the stage that it moved to.
        displaced: the version that held that stage before; None for none.
        who: the person who moved it, or whose command saw it.
        when: seconds since 1970, by the clock of the machine that wrote the entry.
        why: the reason, in that person's words.
        evidence: what the gates rested on: MLflow runs, the margins, the contract changes that were allowed, the
            shortfalls that were overruled.
        identity: that of the artifact that was registered; see `identity_of`.
        share: of the episodes, in percent, in a move to canary.
        bake: the bake that begins with the move, if one does.
        settings: tags of the policy and their new values, empty to remove one; of `set` alone.
        findings: what the gates found, those that passed too; unset in entries of older releases.
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
    share: float | msgspec.UnsetType = msgspec.UNSET
    bake: Bake | msgspec.UnsetType = msgspec.UNSET
    settings: dict[str, str] | msgspec.UnsetType = msgspec.UNSET
    findings: tuple[Judged, ...] | msgspec.UnsetType = msgspec.UNSET

    @property
    def canary_share(self) -> float | None:
        """`share`; None in a move to anything but canary."""
        return None if isinstance(self.share, msgspec.UnsetType) else self.share


class Link(msgspec.Struct, frozen=True):
    """A move in its place in the chain: the number of the entry before it, and that entry's hash."""

    move: Move
    after: int
    previous: str

    def to_bytes(self) -> bytes:
        """Canonical JSON; these bytes are both hashed and stored."""
        return msgspec.json.encode(self, order="deterministic")

    @property
    def hash(self) -> str:
        return "sha256:" + hashlib.sha256(self.to_bytes()).hexdigest()


@dataclass(frozen=True)
class Entry:
    """A stored link.

    Attributes:
        number: MLflow's version number.
        link: the parsed text; None when it can't be read.
        text: the link as stored.
        stored_hash: the hash stored beside it.
        applied: whether the move's alias and stages were written after the entry.
        is_void: whether it is marked as having lost a race.
        is_foreign: whether it is no entry but a model that somebody logged under the journal's name.
        writers: tag of each process that is writing aliases for it, or died while doing so → when it began, seconds
            since 1970 as text.
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
    """Makes an entry from what MLflow stores; `marks` are further attributes of Entry."""
    try:
        link = msgspec.json.decode(text, type=Link)
    except (msgspec.DecodeError, msgspec.ValidationError):
        link = None
    return Entry(number, link, text, stored_hash, applied, **marks)


def waived(move: Move) -> list[str]:
    """The parts of a move's evidence that `--force` or `--allow-breaking` let pass, as stored."""
    return [text for text in move.evidence if text.startswith((OVERRULED, ALLOWED))]


def run_links(move: Move) -> list[str]:
    """The MLflow runs in a move's evidence, as stored."""
    return [text for text in move.evidence if not text.startswith((OVERRULED, ALLOWED, MARGINS, WATCHED))]


def say(entry: Entry) -> str:
    """An entry as one line for a person; what somebody typed is escaped, so that it can't imitate other parts."""
    if entry.link is None:
        return f"{entry.number:>4}  can't be read: it was edited; see history --check"
    move = entry.link.move
    when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(move.when))
    held = f" (was {_word(move.displaced)})" if move.displaced and move.displaced != move.version else ""
    share = "" if move.canary_share is None else f" {share_text(move.canary_share)} %"
    version, to = _word(move.version), _word(move.to)
    seen = "seen in MLflow's UI: " if move.kind == "seen" else ""
    what = f"{version} registered" if move.kind == "register" else f"{version} → {to}{share}{held}"
    if move.kind == "baked":
        what = f"{version} in {to}, no alarm"
    elif move.kind == "set":
        what = ", ".join(f"{_word(k)} = {_word(v) or 'default'}" for k, v in sorted((move.settings or {}).items()))
    elif move.bake:
        what += f", bakes for {say_duration(move.bake.duration_s)}"
    verb = "" if move.kind in {"seen", "register"} else f"{move.kind}: "
    why = f"  “{_word(move.why)}”" if move.why else ""
    for how in (ALLOWED, OVERRULED):
        gates = dict.fromkeys(
            _word(text[len(how) :].partition(":")[0]) for text in waived(move) if text.startswith(how)
        )
        why += f"  {how}{', '.join(gates)}" if gates else ""
    return f"{entry.number:>4}  {when}  {seen}{verb}{what}  by {_word(move.who)}{why}"


def _word(text: str) -> str:
    """The text escaped, quotation marks too."""
    return escaped(text).replace("“", "\\u201c").replace("”", "\\u201d")
