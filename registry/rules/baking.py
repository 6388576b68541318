"""Which versions bake now, by the journal, and whether anybody guards them. Pure."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from shlex import quote

from registry.rules.durations import say_duration
from registry.rules.journal import Bake, Entry, Move
from registry.rules.lifecycle import aliases_given_up

GUARDED = "guarded"
"""Tag of the registered model: when a guard looked last, seconds since 1970."""
GUARDED_S = 90.0
"""So many seconds after its last look a guard counts as gone."""


@dataclass(frozen=True)
class Baking:
    """A bake that has not ended.

    Attributes:
        entry: the number of the journal's entry that began it.
        move: the promotion.
        bake: its alarms, and how long it lasts.
    """

    entry: int
    move: Move
    bake: Bake

    @property
    def ends(self) -> float:
        """Seconds since 1970."""
        return self.move.when + self.bake.duration_s

    def say(self, name: str, now: float, is_guarded: bool) -> str:
        """Where it stands, for a person; `name` is the policy's."""
        what = f"{self.move.to}: {self.move.version} bakes"
        guard = "" if is_guarded else f", and nobody guards it: {how_to_guard(name)}"
        if now >= self.ends:
            return f"{what}, overdue since {_clock(self.ends)}{guard}"
        return f"{what} until {_clock(self.ends)}{guard}"


def _clock(when: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(when))


def baking(entries: Iterable[Entry]) -> list[Baking]:
    """The bakes that have not ended: the version holds its stage still, and no entry says that it has baked.

    Args:
        entries: the journal's chain.
    """
    found: dict[str, Baking] = {}
    for entry in entries:
        if entry.link is None or entry.link.move.kind in ("register", "set"):
            continue
        move = entry.link.move
        for stage in [stage for stage, each in found.items() if _ends(move.version, move.to, each.move)]:
            del found[stage]
        if move.bake:
            found[move.to] = Baking(entry.number, move, move.bake)
    return list(found.values())


def cut_short(entries: Iterable[Entry], version: str, to: str, now: float) -> str | None:
    """Says which bakes a promotion ends before their time; None where it ends none.

    Args:
        entries: the journal's chain.
        version: that is promoted; the canary that goes to production bakes no longer as the canary.
        to: the stage that it goes to.
        now: seconds since 1970.
    """
    ended = [each for each in baking(entries) if now < each.ends and _ends(version, to, each.move)]
    return "; ".join(_so_far(each, now) for each in ended) or None


def _so_far(bake: Baking, now: float) -> str:
    seen = say_duration(max(0, int(now - bake.move.when)))
    return f"{bake.move.version} had baked in {bake.move.to} for {seen} of {say_duration(bake.bake.duration_s)}"


def ended_by(entries: Iterable[Entry], bake: Baking) -> Move | None:
    """The move, or the end, that ended a bake; None while it has not ended."""
    later = (entry.link.move for entry in entries if entry.link and entry.number > bake.entry)
    moves = (move for move in later if move.kind not in ("register", "set"))
    return next((move for move in moves if _ends(move.version, move.to, bake.move)), None)


def _ends(version: str, to: str, begun: Move) -> bool:
    """Whether a version's move ends the bake that another move has begun."""
    return to == begun.to or (version == begun.version and begun.to in aliases_given_up(to))


def is_guarded(tags: Mapping[str, str], now: float) -> bool:
    """Whether a guard looked lately, by the tags of the registered model."""
    try:
        return now - float(tags.get(GUARDED, "")) < GUARDED_S
    except ValueError:
        return False


def how_to_guard(name: str, servers: Sequence[str] = ()) -> str:
    """The command that guards a policy's bakes; `servers` are the URLs, where they are known."""
    return f"carla-registry guard {quote(name)} --servers {' '.join(map(quote, servers)) or 'URL…'}"


def say_bake(bake: Bake) -> str:
    """A bake's alarms and its length."""
    return f"bakes for {say_duration(bake.duration_s)}; alarms: {', '.join(bar.alarm for bar in bake.bars)}"
