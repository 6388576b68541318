"""A remote policy with the local engine's call: PolicyClient(url).act(observations)."""

from __future__ import annotations

import time
from types import TracebackType
from typing import Any, Self

import httpcore

from .actions import Actions
from .card_sections import Card
from .client_wire import Headers, Remote
from .errors import UnreachableError
from .observations import collect

TIMEOUT_S = 10.0
LOST = (httpcore.ReadError, httpcore.WriteError, httpcore.RemoteProtocolError)
"""A connection that was open, and is not any more: asking again on a new one is safe, an answer changes nothing."""
FAILED = (httpcore.NetworkError, httpcore.ProtocolError, httpcore.TimeoutException, OSError)


class PolicyClient:
    """Talks to one policy server over one kept-alive connection. Not safe to share between threads.

    When another policy has taken over there, its card is asked for; one that observes or acts otherwise is an error.
    """

    def __init__(self, url: str, timeout_s: float = TIMEOUT_S, api_key: str = "", expected: Card | None = None) -> None:
        """Connects, and asks what drives.

        Args:
            url: such as `http://127.0.0.1:8080`.
            timeout_s: for connecting, and for each read and write.
            api_key: the server's POLICY_API_KEY.
            expected: the card whose contract the caller was built for; None for what drives there now.

        Raises:
            UnreachableError: no server answers there.
            ServerError: it is no policy server, or not ready; the text says why.
            ContractError: what drives there observes or acts otherwise than expected.
        """
        self._remote = Remote(url, api_key, expected)
        self._timeout_s = timeout_s
        self._pool = httpcore.ConnectionPool(max_connections=1, keepalive_expiry=None)
        try:
            self._learn()
        except BaseException:
            self.close()
            raise

    @property
    def card(self) -> Card:
        """Of what drives; observations are checked against it here."""
        return self._remote.card

    @property
    def version(self) -> str:
        """Semantic version of the policy that gave the latest answer."""
        return self._remote.version

    @property
    def digest(self) -> str:
        """Of the policy that gave the latest answer."""
        return self._remote.digest

    def act(
        self,
        observations: Any,
        deterministic: bool = True,
        seed: int | None = None,
        budget_ms: float | None = None,
    ) -> Actions:
        """Asks the server; arguments and result as `Engine.act`.

        Args:
            observations: see `as_arrays`.
            deterministic: the head's mode; otherwise one sample a row.
            seed: of the sample.
            budget_ms: how long the answer is worth waiting for; after that the card's fallback is returned, with
                `fallback` set.

        Raises:
            SpecError: an observation does not fit the spec; found here, nothing is sent.
            ServerError: the server refused or failed; `code` is its error code.
            ContractError: another policy has taken over that observes or acts otherwise.
            UnreachableError: no answer, before the budget was over.
        """
        began = time.monotonic()
        arrays = collect(self.card.observation_spec, observations)
        rows, digest = len(next(iter(arrays.values()))), self.digest
        headers, body = self._remote.request(arrays, deterministic, seed, budget_ms)
        ends = None if budget_ms is None else began + budget_ms / 1e3
        try:
            answer = self._ask("POST", self._remote.path, headers, body, ends)
        except OverBudget:
            return self._remote.fallback(rows)
        actions = self._remote.actions(answer.status, answer.headers, answer.content, rows)
        if self.digest != digest:
            self._learn()
        return actions

    def _learn(self) -> None:
        answer = self._ask("GET", "/metadata", self._remote.headers, None, None)
        self._remote.learn(answer.status, answer.content)

    def _ask(
        self, method: str, path: str, headers: Headers, body: bytes | None, ends: float | None
    ) -> httpcore.Response:
        for last in (False, True):
            timeout = timeouts(self._timeout_s, ends)
            try:
                return self._pool.request(
                    method, self._remote.url + path, headers=headers, content=body, extensions={"timeout": timeout}
                )
            except FAILED as error:
                if last or not isinstance(error, LOST):
                    raise failure(self._remote.url, error, ends) from error
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


class OverBudget(Exception):  # noqa: N818
    """There is no time left to wait for an answer."""


def timeouts(timeout_s: float, ends: float | None) -> dict[str, float]:
    """For httpcore; raises OverBudget when nothing is left of the budget."""
    left = timeout_s if ends is None else min(timeout_s, ends - time.monotonic())
    if left <= 0:
        raise OverBudget
    return dict.fromkeys(("connect", "read", "write", "pool"), left)


def failure(url: str, error: Exception, ends: float | None) -> Exception:
    """What a failed call is for the caller: too late, or no answer."""
    if ends is not None and isinstance(error, httpcore.TimeoutException) and time.monotonic() >= ends - 1e-3:
        return OverBudget()
    return UnreachableError(f"{url}: no answer: {error or type(error).__name__}")
