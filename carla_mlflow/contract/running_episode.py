"""A running episode: one route of one car, in which a policy keeps its memory, its history and its version."""

from __future__ import annotations

import contextlib
import copy
import threading
import time
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from ..errors import ServerError, SpecError
from .actions import Actions, check_budget
from .card import Card
from .episode import check_episode_id, new_episode_id
from .episode_core import Answer, EpisodeCore, Question
from .history import MAX_TICKS


@dataclass(frozen=True)
class Request:
    """A question, and how it is to be answered.

    Attributes:
        question: what is asked; outside an episode a batch of any number of rows.
        episode_id: names the episode; empty outside one.
        deterministic: as the arguments of `Policy.act`; so are `seed` and `budget_ms`.
        began: when the budget began, by `time.monotonic`.
    """

    question: Question
    episode_id: str
    deterministic: bool
    seed: int | None
    budget_ms: float | None
    began: float

    @property
    def ends(self) -> float | None:
        """When the budget is over, by `time.monotonic`."""
        return None if self.budget_ms is None else self.began + self.budget_ms / 1e3


class _Episode:
    """What both kinds of episode have; `Episode` documents the attributes."""

    def __init__(self, episode_id: str | None) -> None:
        self.id = new_episode_id() if episode_id is None else check_episode_id(episode_id)
        self._core: EpisodeCore | None = None
        self._is_busy = threading.Lock()

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """Refuses a second call during the first: both would send the same state, and one answer would be lost."""
        if not self._is_busy.acquire(blocking=False):
            raise SpecError("episode", "another call is under way; it takes one at a time, and each car needs its own")
        try:
            yield
        finally:
            self._is_busy.release()

    @property
    def step(self) -> int:
        return self._core.step if self._core else 0

    @property
    def digest(self) -> str | None:
        return self._core.digest if self._core else None

    @property
    def restarts(self) -> Counter[str]:
        return self._core.restarts if self._core else Counter()

    @property
    def actions(self) -> Actions | None:
        return self._core.actions if self._core else None

    @property
    def is_due(self) -> bool:
        return self._core is None or self._core.is_due


class Episode(_Episode):
    """One episode of a policy: `episode = policy.start_episode()`, then `episode.act(observation)` at every tick.

    It keeps what the policy needs from one tick to the next: the state of a policy with memory, the latest frames of
    fields with `history`, and the action that holds for `repeat` ticks. It keeps to one version of the policy, too,
    while the server holds that; afterwards it begins anew, with the version that is served. Not safe to share between
    threads, but any number of episodes may use one policy in turn.

    A late answer or an error changes nothing of that: the next call asks again, with the state of the last answer that
    came. The policy then has a step less in its memory than the server computed, which is as if the tick had not been.

    Attributes:
        id: names the episode in the server's log and spans, and in `X-Episode-Id`.
        step: ticks so far: calls of `act` and `skip`.
        digest: of the version that answers; None before the first answer.
        restarts: how often the episode began anew, by the reason: `state_of_another_key`, `state_of_another_version`,
            `episode_of_another_version`, or `state_refused` where the state was damaged. When it has begun anew three
            times without a step in between, the server's error is raised, and the next call begins anew.
        actions: the latest that the policy decided; None before the first.
        is_due: whether the next `act` asks the policy; otherwise the latest action still holds.
    """

    def __init__(self, card: Card, ask: Callable[[Request], Answer], episode_id: str | None = None) -> None:
        """Begins an episode; `Policy.start_episode` does, too.

        Args:
            card: of the policy.
            ask: sends one request, and returns its answer.
            episode_id: 1 to 64 characters of A-Z, a-z, 0-9, `.`, `_` and `-`; None: a new, random one.

        Raises:
            SpecError: the id is not such a text.
        """
        super().__init__(episode_id)
        self._core: EpisodeCore = EpisodeCore(card)
        self._ask = ask

    def act(
        self,
        observation: Mapping[str, Any],
        deterministic: bool = True,
        seed: int | None = None,
        budget_ms: float | None = None,
    ) -> Actions:
        """Decides at one tick, or returns the action that still holds.

        Args:
            observation: every field of the card: an array, a number or a list, without a batch axis (or with one of
                1). For a field with `history`, this tick's frame: its shape is the field's, with the first axis divided
                by the number of ticks.
            deterministic: the head's mode; otherwise a sample.
            seed: of the sample.
            budget_ms: how long the decision may take, milliseconds; after that the card's fallback is returned.

        Returns:
            Actions of one row.

        Raises:
            SpecError: the observation does not fit the card, or the budget is invalid. The frames before count for this
                tick, too. Or another call is under way, in another thread or task; this one then changed nothing.
            CarlaMlflowError: as the policy's `act`.
        """
        began = time.monotonic()
        check_budget(budget_ms)
        with self._alone():
            asked = self._core.tick(observation)
            if isinstance(asked, Actions):
                return asked
            request = Request(asked, self.id, deterministic, seed, budget_ms, began)
            try:
                answer = self._ask(request)
            except ServerError as error:
                answer = self._ask(replace(request, question=self._core.begin_anew(asked, error)))
            return self._core.answered(answer)

    def skip(self, observation: Mapping[str, Any] | None = None) -> None:
        """Lets a tick pass without acting: an action that holds does so for a tick less, and frames are kept.

        Args:
            observation: of that tick, as for `act`; None: there is none, so that the frames before count for it, too.

        Raises:
            SpecError: the observation does not fit the card.
        """
        with self._alone():
            self._core.skip(observation)


class AsyncEpisode(_Episode):
    """`Episode` for asyncio, whose `act` is awaited; one call at a time.

    Ticks at which the client could not connect count, too: the latest 64 observations are kept for the card to come.
    """

    def __init__(
        self,
        connect: Callable[[], Awaitable[Card]],
        ask: Callable[[Request], Awaitable[Answer]],
        episode_id: str | None = None,
    ) -> None:
        """As `Episode`; the card is known once `connect` has returned."""
        super().__init__(episode_id)
        self._connect, self._ask = connect, ask
        self._unasked: deque[Mapping[str, Any] | None] = deque(maxlen=MAX_TICKS)

    async def act(
        self,
        observation: Mapping[str, Any],
        deterministic: bool = True,
        seed: int | None = None,
        budget_ms: float | None = None,
    ) -> Actions:
        """As `Episode.act`. A client that is not connected connects first, which `budget_ms` does not limit."""
        check_budget(budget_ms)
        with self._alone():
            core = await self._begun(observation)
            began = time.monotonic()
            asked = core.tick(observation)
            if isinstance(asked, Actions):
                return asked
            request = Request(asked, self.id, deterministic, seed, budget_ms, began)
            try:
                answer = await self._ask(request)
            except ServerError as error:
                answer = await self._ask(replace(request, question=core.begin_anew(asked, error)))
            return core.answered(answer)

    async def skip(self, observation: Mapping[str, Any] | None = None) -> None:
        """As `Episode.skip`."""
        with self._alone():
            (await self._begun(observation)).skip(observation)

    async def _begun(self, observation: Mapping[str, Any] | None) -> EpisodeCore:
        """The core, once the card is known; until then the observation of each tick is kept for it."""
        if self._core is None:
            try:
                core = EpisodeCore(await self._connect())
            except BaseException:
                self._unasked.append(copy.deepcopy(observation))
                raise
            for seen in self._unasked:
                with contextlib.suppress(SpecError):  # the frames before count for that tick
                    core.skip(seen)
            self._unasked.clear()
            self._core = core
        return self._core


def local_episode(policy: Any, episode_id: str | None) -> Episode:
    """An episode of a policy in this process, such as an Engine."""
    remembers = bool(policy.card.states)

    def ask(request: Request) -> Answer:
        how = {name: getattr(request, name) for name in ("deterministic", "seed", "budget_ms")}
        if remembers:
            how["state"] = request.question.state
        actions = policy.act(request.question.arrays, **how)
        return Answer(actions, actions.state if remembers else None, policy.digest)

    return Episode(policy.card, ask, episode_id)
