"""What a replay found, as `--json` prints it."""

from __future__ import annotations

import time
from typing import Any

import msgspec

from serve.replay.compare import Figures
from serve.replay.drove import Span
from serve.replay.moments import Moment
from serve.replay.timeline import TimelineFigures
from serve.replay.verify import Verification


class Version(msgspec.Struct, frozen=True):
    """A version of a policy: its name, semantic version, and its artifact's digest."""

    name: str
    version: str
    digest: str

    def __str__(self) -> str:
        return f"{self.name} {self.version}"


class Result(msgspec.Struct, frozen=True):
    """What a replay found.

    Attributes:
        folder: of the recording.
        rows: how many observations were looked at.
        outcomes: policy, fallback or refused → rows.
        episodes: how many different ones.
        lost: rows that the recording lost, by its own count, in all of its files.
        first: of the first row, nanoseconds since 1970; 0 without rows.
        last: of the last row.
        drove: which version when.
        asked_journal: whether the registry's journal was compared with that.
        again: of each digest, whether it gives the same again.
        other: the version that was compared; None for none.
        compared: how far its actions are from the recorded ones.
        timeline: when they are.
        exports: what was written, in words.
    """

    folder: str
    rows: int
    outcomes: dict[str, int]
    episodes: int
    lost: int
    first: int
    last: int
    drove: list[Span]
    asked_journal: bool
    again: list[Verification]
    other: Version | None = None
    compared: Figures | None = None
    timeline: TimelineFigures | None = None
    exports: tuple[str, ...] = ()

    @property
    def holds(self) -> bool:
        """Whether there are answers, and every one that could be given again is the recorded one."""
        return bool(self.rows) and bool(self.again) and all(found.holds for found in self.again)

    def as_json(self) -> dict[str, Any]:
        """As plain values; times as ISO 8601 in UTC with nanoseconds, actions by name."""
        document: dict[str, Any] = msgspec.to_builtins(self)
        document |= {"holds": self.holds, "first": utc(self.first), "last": utc(self.last)}
        for span in document["drove"]:
            span |= {"first": utc(span["first"]), "last": utc(span["last"])}
        for told, found in zip(document["again"], self.again, strict=True):
            told |= {"holds": found.holds, "first": [moment_as_json(moment, ()) for moment in found.first]}
        if self.compared is not None:
            document["compared"]["worst"] = [moment_as_json(m, self.compared.names) for m in self.compared.worst]
        if self.timeline is not None:
            document["timeline"] |= {"start": utc(self.timeline.start), "end": utc(self.timeline.end)}
        return document


def moment_as_json(moment: Moment, names: tuple[str, ...]) -> dict[str, Any]:
    """A moment as plain values; its actions by name, or as lists without names."""
    actions = {"recorded": moment.recorded, "other": moment.other}
    told = {key: dict(zip(names, values, strict=True)) if names else list(values) for key, values in actions.items()}
    return {
        "time": utc(moment.timestamp),
        "episode": moment.episode or None,
        "frame": moment.frame if moment.frame >= 0 else None,
        "request": moment.request,
        "row": moment.row,
        **told,
        "difference": moment.difference,
    }


def utc(nanoseconds: int) -> str | None:
    """Nanoseconds since 1970 → ISO 8601 in UTC; None for 0, which stands for no time."""
    if not nanoseconds:
        return None
    seconds, rest = divmod(nanoseconds, 10**9)
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(seconds))}.{rest:09}Z"


def local(nanoseconds: int, digits: int = 0) -> str:
    """Nanoseconds since 1970 → date and time here, with so many digits of a second's fraction."""
    seconds, rest = divmod(nanoseconds, 10**9)
    text = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))
    return f"{text}.{rest:09}"[: len(text) + 1 + digits] if digits else text
