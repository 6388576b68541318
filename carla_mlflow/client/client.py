"""A remote policy, called like the local engine: PolicyClient(url).act(observations)."""

from __future__ import annotations

import math
import time
from types import TracebackType
from typing import Any, Self

import httpcore

from ..contract.actions import Actions
from ..contract.card import Card
from ..contract.episode_core import Answer, Question
from ..contract.running_episode import Episode, Request
from .attempt import FAILED, Attempt, OverBudget, TimedBackend, failure
from .wire import Headers, Remote

TIMEOUT_S = 10.0


class PolicyClient:
    """Talks to one policy server over one kept-alive connection. Not safe to share between threads.

    When the server starts to serve another policy, its card is fetched; a different contract is an error.
    """

    def __init__(self, url: str, timeout_s: float = TIMEOUT_S, api_key: str = "", expected: Card | None = None) -> None:
        """Connects, and fetches the served policy's card.

        Args:
            url: such as `http://127.0.0.1:8080`, or `unix:/run/policy.sock` for a server on this machine. A host's
                name is looked up here and by calls without a budget, for as long as the system's resolver takes.
            timeout_s: limit of one call, seconds, unless its budget is shorter.
            api_key: the server's POLICY_API_KEY.
            expected: the card whose contract the caller was built for; None takes the card of the policy served now.

        Raises:
            UnreachableError: no server answers there.
            ServerError: it is no policy server, or not ready; the text says why.
            ContractError: the served policy observes or acts differently than expected.
        """
        self._remote = Remote(url, api_key, expected)
        self._timeout_s = timeout_s
        self._backend = TimedBackend()
        self._pool = httpcore.ConnectionPool(
            max_connections=1, keepalive_expiry=None, network_backend=self._backend, uds=self._remote.socket
        )
        try:
            self._fetch_card()
        except BaseException:
            self.close()
            raise

    @property
    def card(self) -> Card:
        """The served policy's card, against which the client checks observations."""
        return self._remote.card

    @property
    def version(self) -> str:
        """Semantic version of the policy behind the latest response."""
        return self._remote.version

    @property
    def digest(self) -> str:
        """Digest of the policy behind the latest response."""
        return self._remote.digest

    def act(
        self,
        observations: Any,
        deterministic: bool = True,
        seed: int | None = None,
        budget_ms: float | None = None,
    ) -> Actions:
        """Requests actions from the server; arguments and result as `Engine.act`.

        Args:
            observations: see `as_arrays`.
            deterministic: the head's mode; otherwise one sample per row.
            seed: of the sample.
            budget_ms: how long to wait for a response, milliseconds; after that the card's fallback is returned,
                with `fallback` set.

        Raises:
            SpecError: an observation does not fit the spec, or the budget is invalid; nothing is sent.
            ServerError: the server refused or failed; `code` is its error code.
            ContractError: the server now serves another policy that observes or acts differently.
            UnreachableError: the server did not answer, and the budget was not over.
        """
        began = time.monotonic()
        arrays = self._remote.collect(observations)
        asked = Request(Question(arrays), "", deterministic, seed, budget_ms, began)
        return self._answer(asked).actions

    def start_episode(self, episode_id: str | None = None) -> Episode:
        """Begins an episode, such as one route of one car, in which the policy keeps memory, history and version.

        The server writes the id into its log and spans, and compares each action with the episode's previous one.

        Args:
            episode_id: 1 to 64 characters of A-Z, a-z, 0-9, `.`, `_` and `-`; None: a new, random one.

        Returns:
            The episode, whose `act` takes one observation at every tick.

        Raises:
            SpecError: the id is not such a text.
        """
        return Episode(self.card, self.step, episode_id)

    def step(self, asked: Request) -> Answer:
        """Sends one request of an episode, as `Episode` asks it; errors as `act`."""
        return self._answer(self._remote.checked(asked))

    def _answer(self, asked: Request) -> Answer:
        rows = len(next(iter(asked.question.arrays.values())))
        headers, body = self._remote.request(asked)
        try:
            response = self._send("POST", self._remote.path, headers, body, asked.ends)
            answer = self._remote.answer(response.status, response.headers, response.content, rows)
            if self._remote.is_new(answer.digest):
                self._fetch_card(asked.ends, answer.digest)
        except OverBudget:
            return self._remote.fallback(rows)
        return answer if asked.ends is None or time.monotonic() < asked.ends else self._remote.fallback(rows)

    def _fetch_card(self, ends: float | None = None, answered: str | None = None) -> None:
        answer = self._send("GET", "/metadata", self._remote.headers, None, ends)
        self._remote.read_metadata(answer.status, answer.content, answered)

    def _send(
        self, method: str, path: str, headers: Headers, body: bytes | None, budget_ends: float | None
    ) -> httpcore.Response:
        now = time.monotonic()
        if budget_ends is not None and now >= budget_ends:
            raise OverBudget
        self._backend.ends = min(now + self._timeout_s, budget_ends or math.inf)
        self._backend.may_look_up = budget_ends is None
        url = self._remote.origin + path
        for last in (False, True):
            attempt = Attempt()
            try:
                return self._pool.request(
                    method, url, headers=headers, content=body, extensions={"trace": attempt.record}
                )
            except FAILED as error:
                if last or not attempt.may_repeat(error):
                    raise failure(self._remote.url, error, budget_ends) from error
        raise AssertionError

    def close(self) -> None:
        """Closes the connection."""
        self._pool.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
