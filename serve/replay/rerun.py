"""Runs a policy again on recorded rows: at once where it has no memory, else step by step through its episodes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from carla_mlflow.errors import ActionError, SpecError
from carla_mlflow.inference.engine import Engine
from serve.replay.rows import Float32, Rows

PIECE_ROWS = 2048
"""Rows in one forward."""
MAX_EPISODES = 65_536
"""Of so many episodes the state is kept; of the one that was seen longest ago it is forgotten first."""

NO_START = "the episode's start is not in the recording"
NO_EPISODE = "in no episode, which a policy with memory needs"
REFUSES = "it refuses the observation"
UNUSABLE = "it computes no usable action"
REASONS = (NO_START, NO_EPISODE, REFUSES, UNUSABLE)
"""Why a policy does not answer a row again."""
ANSWERED = -1
NOT_COMPARED, SAME, OTHER = range(3)

Places = NDArray[np.int64]
State = dict[str, Float32]


class Answers(NamedTuple):
    """What a policy answers to recorded rows.

    Attributes:
        control: (B, C), as `Actions.control`; NaN where it is not known.
        raw: (B, A), likewise.
        why: ANSWERED, or why the policy did not answer the row, a place in REASONS; int8 (B,).
        state: NOT_COMPARED, or whether the recorded state is the one that the step before led to, SAME or OTHER;
            int8 (B,).
    """

    control: Float32
    raw: Float32
    why: NDArray[np.int8]
    state: NDArray[np.int8]

    @property
    def known(self) -> NDArray[np.bool_]:
        """Whether the policy answered the row, (B,)."""
        answered: NDArray[np.bool_] = self.why == ANSWERED
        return answered

    @property
    def reasons(self) -> dict[str, int]:
        """Why it did not answer others → how many."""
        counts = np.bincount(self.why[~self.known], minlength=len(REASONS)).tolist()
        return {reason: rows for reason, rows in zip(REASONS, counts, strict=True) if rows}

    def take(self, chosen: NDArray[np.bool_]) -> Answers:
        """The answers to the chosen rows."""
        return Answers(self.control[chosen], self.raw[chosen], self.why[chosen], self.state[chosen])


class Carried(NamedTuple):
    """What is known of an episode: its last step, and the states before and after it, each float32 (*shape)."""

    frame: int
    before: State
    after: State


class Rerun:
    """Runs one policy again; to be given a recording's rows in the order of time.

    A policy without memory gives each row's answer from that row alone. One with memory takes each episode's state from
    its step before; the first comes from the recording, or where `from_start`, only from the episode's beginning.
    """

    def __init__(self, engine: Engine, from_start: bool = False) -> None:
        """`from_start`: for another version than the recorded one, to which the recorded states mean nothing."""
        self.engine, self._from_start = engine, from_start
        self._samples = engine.card.action.head != "deterministic"  # one without a distribution is asked for its mode
        memory = engine.card.memory
        self._initial = None if memory is None else {name: values[0] for name, values in memory.initial(1).items()}
        self._episodes: dict[tuple[str, int], Carried] = {}

    def act(self, rows: Rows) -> Answers:
        """Answers rows that have all observations which this policy needs."""
        count, action = len(rows), self.engine.card.action
        unknown = np.full((count, len(action.control_names)), np.nan, np.float32)
        raw = np.full((count, len(action.raw)), np.nan, np.float32)
        answers = Answers(unknown, raw, np.full(count, ANSWERED, np.int8), np.full(count, NOT_COMPARED, np.int8))
        if self._initial is None:
            for start in range(0, count, PIECE_ROWS):
                self._forward(rows, np.arange(start, min(start + PIECE_ROWS, count)), answers, {}, None)
            return answers
        for places in _rounds(rows):
            self._step(rows, places, rows.reset, answers)
        return answers

    def _step(self, rows: Rows, places: Places, begins: NDArray[np.bool_], answers: Answers) -> None:
        """Runs rows of different episodes."""
        states = {place: self._state_before(rows, place, bool(begins[place]), answers) for place in places.tolist()}
        known = {place: state for place, state in states.items() if state is not None}
        if not known:
            return
        ready = np.array(list(known))
        entered = {name: np.stack([state[name] for state in known.values()]) for name in next(iter(known.values()))}
        following = self._forward(rows, ready, answers, entered, begins[ready])
        for number, (place, before) in enumerate(known.items()):
            if rows.episode[place] >= 0 and answers.why[place] == ANSWERED:
                after = {name: values[number] for name, values in following.items()}
                episode = rows.episodes[rows.episode[place]]
                self._episodes.pop(episode, None)
                self._episodes[episode] = Carried(int(rows.frame[place]), before, after)
        while len(self._episodes) > MAX_EPISODES:
            del self._episodes[next(iter(self._episodes))]

    def _state_before(self, rows: Rows, place: int, begins: bool, answers: Answers) -> State | None:
        """The state with which a row is answered; None where it is not known, and the episode's is forgotten."""
        if begins:
            return self._initial
        carried = self._carried(rows, place)
        if rows.has_state[place] and not self._from_start:
            recorded = {name: values[place] for name, values in rows.state.items()}
            if carried is not None:
                answers.state[place] = SAME if _same_state(recorded, carried) else OTHER
            return recorded
        if carried is None:
            answers.why[place] = REASONS.index(NO_EPISODE if rows.episode[place] < 0 else NO_START)
        return carried

    def _carried(self, rows: Rows, place: int) -> State | None:
        """The state to which the step before led; None where that is not the one before, and it is forgotten."""
        if rows.episode[place] < 0:
            return None
        episode, frame = rows.episodes[rows.episode[place]], int(rows.frame[place])
        known = self._episodes.get(episode)
        if known is not None and frame == known.frame + 1:
            return known.after
        if known is not None and frame == known.frame:  # the client sent the step again
            return known.before
        self._episodes.pop(episode, None)
        return None

    def _forward(
        self, rows: Rows, places: Places, answers: Answers, state: State, begins: NDArray[np.bool_] | None
    ) -> State:
        """Runs some rows, those with one seed together; returns the next states, each (len(places), *shape)."""
        assert rows.observations is not None
        following = {name: np.zeros_like(values) for name, values in state.items()}
        seeds = rows.seed[places] if self._samples else np.full(len(places), -1)
        for seed, among in _seeds(seeds):
            self._answer(rows, places, among, seed, answers, (state, begins, following))
        return following

    def _answer(
        self, rows: Rows, places: Places, among: Places, seed: int | None, answers: Answers, memory: tuple[Any, ...]
    ) -> None:
        """Runs the rows `places[among]`; where it fails it runs the halves, until only the row at fault is left."""
        assert rows.observations is not None
        state, begins, following = memory
        chosen = places[among]
        observations = {name: rows.observations[name][chosen] for name in self.engine.specs.names}
        given = (
            {"state": {name: values[among] for name, values in state.items()}, "reset": begins[among]} if state else {}
        )
        try:
            acted = self.engine.act(observations, seed is None, seed, **given)
        except (SpecError, ActionError) as error:
            if len(among) == 1:
                answers.why[chosen] = REASONS.index(REFUSES if isinstance(error, SpecError) else UNUSABLE)
                return
            for half in np.array_split(among, 2):
                self._answer(rows, places, half, seed, answers, memory)
            return
        answers.control[chosen], answers.raw[chosen] = acted.control, acted.raw
        for name, values in acted.state.items():
            following[name][among] = values


def _same_state(one: State, other: State) -> bool:
    """Whether two states have the same bits."""
    return all(values.tobytes() == other[name].tobytes() for name, values in one.items())


def _seeds(seeds: NDArray[np.int64]) -> Iterator[tuple[int | None, Places]]:
    """Each seed, None for rows that were not sampled, with the places of its rows."""
    order = np.argsort(seeds, kind="stable")
    values, starts = np.unique(seeds[order], return_index=True)
    for value, places in zip(values.tolist(), np.split(order, starts[1:]), strict=True):
        yield None if value < 0 else value, places


def _rounds(rows: Rows) -> Iterator[Places]:
    """Places of rows so that none follows another of its episode; those of an episode come in the batch's order."""
    named = np.flatnonzero(rows.episode >= 0)
    order = named[np.argsort(rows.episode[named], kind="stable")]
    _, starts, counts = np.unique(rows.episode[order], return_index=True, return_counts=True)
    rank = np.zeros(len(rows), np.int64)
    rank[order] = np.arange(len(order)) - np.repeat(starts, counts)
    by_rank = np.argsort(rank, kind="stable")
    for places in np.split(by_rank, np.flatnonzero(np.diff(rank[by_rank])) + 1):
        for start in range(0, len(places), PIECE_ROWS):
            yield places[start : start + PIECE_ROWS]
