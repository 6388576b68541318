"""Guards bakes: looks at the servers' figures, and rolls a version back, or ends its bake when the time is over.

What a guard knows lies in the journal but for its last looks, so one that was killed goes on when it is started again,
and of two guards the journal lets one write.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from carla_mlflow.errors import CarlaMlflowError, RefusedError
from carla_mlflow.escaping import one_line
from registry.checks.scrape import Servers
from registry.moves.append import whoami
from registry.moves.judge import rollback_gates
from registry.moves.promotion import rollback
from registry.moves.state import RegistryState
from registry.moves.sync import commit, sync
from registry.moves.terms import MoveOptions
from registry.rules.baking import GUARDED, Baking, baking, ended_by
from registry.rules.counted import Counted, Key, Scrape, added, growth
from registry.rules.journal import MAX_TEXT, WATCHED, Move
from registry.rules.lifecycle import LEFT
from registry.rules.looks import Watch, look
from registry.store.store import Store

HEARTBEAT_S = 30.0
"""How often a guard says in the registry that it looks, while it can read a server."""


@dataclass(frozen=True)
class Event:
    """What happened to a bake.

    Attributes:
        baking: the bake.
        kind: `watching`, `rolled back`, `ended`, `stuck` (its version should be rolled back, or its bake
            ended, and can't be), or `waits` (its time is over, and too few requests came to end it).
        text: for a person.
        watches: what is known of each alarm.
    """

    baking: Baking
    kind: str
    text: str
    watches: tuple[Watch, ...] = ()


@dataclass
class Guard:
    """Guards the bakes of one policy.

    Attributes:
        name: the policy's.
        servers: that answer with it.
        cache: the folder for fetched artifacts, in which a version that is rolled back to is verified.
        opened: makes a connection to the registry; called for each look.
        unread: the error of each server that could not be read at the last look.
    """

    name: str
    servers: Servers
    cache: Path
    opened: Callable[[], Store] = Store
    unread: dict[str, CarlaMlflowError] = field(default_factory=dict)
    _scrapes: dict[str, Scrape] = field(default_factory=dict)
    _bakes: list[Baking] = field(default_factory=list)
    _watches: dict[int, tuple[Watch, ...]] = field(default_factory=dict)
    _said: float = 0.0

    def look(self) -> list[Event]:
        """Looks once, and does what is due; what happened to each bake.

        Raises:
            NotFoundError: there is no such policy.
            UnreachableError: the registry did not answer.
        """
        store = self.opened()
        state = sync(store, self.name)
        counted = self._counted()
        if len(self.unread) < len(self.servers.urls):
            self._say_that_it_looks(store)
        bakes = baking(state.entries)
        gone = [event for bake in self._bakes if (event := _gone(state, bake)) is not None]
        self._watches = {
            each.entry: self._watches.get(each.entry) or tuple(Watch(bar) for bar in each.bake.bars) for each in bakes
        }
        events = [self._judge_alone(store, state, each, Counted(counted, each.move.version)) for each in bakes]
        self._bakes = [event.baking for event in events if event.kind not in ("rolled back", "ended")]
        return [*gone, *events]

    def _say_that_it_looks(self, store: Store) -> None:
        if time.monotonic() - self._said >= HEARTBEAT_S or not self._said:
            store.set_model_tags(self.name, {GUARDED: f"{time.time():.0f}"})
            self._said = time.monotonic()

    def _counted(self) -> Mapping[Key, float]:
        """How much the servers' counters grew since the last look."""
        found = self.servers.scrape()
        self.unread = {url: each for url, each in found.items() if not isinstance(each, Scrape)}
        scrapes = {url: each for url, each in found.items() if isinstance(each, Scrape)}
        parts = [growth(self._scrapes.get(url), each) for url, each in scrapes.items()]
        self._scrapes |= scrapes
        return added(parts)

    def _judge_alone(self, store: Store, state: RegistryState, bake: Baking, counted: Counted) -> Event:
        """As `_judge`; what goes wrong with one bake does not keep it from the others."""
        try:
            return self._judge(store, state, bake, counted)
        except CarlaMlflowError as error:
            text = f"{bake.move.to}: the bake of {bake.move.version} can't go on: {one_line(error)}"
            return Event(bake, "stuck", text, self._watches[bake.entry])

    def _judge(self, store: Store, state: RegistryState, bake: Baking, counted: Counted) -> Event:
        watches = tuple(look(watch, counted) for watch in self._watches[bake.entry])
        self._watches[bake.entry] = watches
        if any(watch.fires for watch in watches):
            return self._roll_back(store, bake, watches)
        if time.time() < bake.ends:
            return Event(bake, "watching", "", watches)
        if all(watch.may_end for watch in watches):
            return self._end(store, state, bake, watches)
        waits = "; ".join(watch.say_wait() for watch in watches if not watch.may_end)
        text = f"{bake.move.to}: the time of {bake.move.version}'s bake is over, but it goes on: {waits}"
        return Event(bake, "waits", text, watches)

    def _roll_back(self, store: Store, bake: Baking, watches: tuple[Watch, ...]) -> Event:
        stage, version = bake.move.to, bake.move.version
        fired = [watch.say() for watch in watches if watch.fires]
        options = MoveOptions(
            expect=version,
            reason=f"rolled back by its bake's alarm: {'; '.join(fired)}"[:MAX_TEXT],
            evidence=tuple(f"{WATCHED}{watch.say()}"[:MAX_TEXT] for watch in watches),
        )
        try:
            moved = rollback(store, self.name, stage, self.cache, options, rollback_gates(), to_rolled_back=False)
        except RefusedError as error:
            if (event := _gone(sync(store, self.name), bake)) is not None:
                return event
            self._watches[bake.entry] = tuple(Watch(bar) for bar in bake.bake.bars)  # after two more looks, again
            text = f"{version} should be rolled back, as {'; '.join(fired)}, and can't be: {one_line(error)}"
            return Event(bake, "stuck", text, watches)
        text = f"{stage}: {version} → {_taker(moved.to, moved.version.semver)}, as {'; '.join(fired)}"
        return Event(bake, "rolled back", text, watches)

    def _end(self, store: Store, state: RegistryState, bake: Baking, watches: tuple[Watch, ...]) -> Event:
        version, stage = bake.move.version, bake.move.to
        evidence = tuple(f"{WATCHED}{watch.say()}"[:MAX_TEXT] for watch in watches)
        move = Move("baked", version, stage, version, whoami(), time.time(), evidence=evidence)
        try:
            commit(store, state, move, lambda now: _check_still_bakes(now, bake))
        except RefusedError:
            if (event := _gone(sync(store, self.name), bake)) is None:
                raise
            return event
        return Event(bake, "ended", f"{version} has baked in {stage} without an alarm", watches)


def _gone(state: RegistryState, bake: Baking) -> Event | None:
    """How a bake ended by somebody else's doing; None while it has not ended."""
    move, version, stage = ended_by(state.entries, bake), bake.move.version, bake.move.to
    if move is None:
        return None
    if move.kind == "rollback":
        taker = _taker(move.to, move.version)
        return Event(bake, "rolled back", f"{stage}: {version} → {taker}, by {move.who}: {move.why}")
    how = "has baked" if move.kind == "baked" else f"left {stage}"
    return Event(bake, "ended", f"{version} {how}, by {move.who}")


def _taker(to: str, version: str) -> str:
    """The version that holds the stage after a roll-back, in words; a canary's takes the alias away."""
    return "none" if to.startswith(LEFT) else version


def _check_still_bakes(state: RegistryState, bake: Baking) -> None:
    if ended_by(state.entries, bake) is not None:
        raise RefusedError(f"the bake of {bake.move.version} has ended meanwhile")
