"""PolicyClient for asyncio: many requests at once, each on its own connection."""

from __future__ import annotations

import asyncio
import time
from types import TracebackType
from typing import Any, Self

import httpcore

from ..contract.actions import Actions, check_budget
from ..contract.card import Card
from ..contract.episode_core import Answer, Question
from ..contract.running_episode import AsyncEpisode, Request
from ..errors import ServerError
from .async_unix_stream import AsyncUnixBackend
from .attempt import FAILED, Attempt, OverBudget, failure
from .client import TIMEOUT_S
from .wire import Headers, Remote


class AsyncPolicyClient:
    """Talks to one policy server: `async with AsyncPolicyClient(url) as policy: await policy.act(…)`.

    Arguments and errors as `PolicyClient`. It connects on `async with`, on `connect`, or on the first `act`. Without
    `async with`, call `close` at the end.
    """

    def __init__(
        self,
        url: str,
        timeout_s: float = TIMEOUT_S,
        api_key: str = "",
        expected: Card | None = None,
        connections: int = 16,
    ) -> None:
        """Opens one connection per concurrent request, at most `connections`; further requests wait."""
        self._remote = Remote(url, api_key, expected)
        self._timeout_s = timeout_s
        self._pool = httpcore.AsyncConnectionPool(
            max_connections=connections,
            keepalive_expiry=None,
            network_backend=AsyncUnixBackend() if self._remote.socket else None,
            uds=self._remote.socket,
        )

    @property
    def card(self) -> Card:
        """The served policy's card, once connected."""
        return self._connected.card

    @property
    def version(self) -> str:
        """Semantic version of the policy behind the latest response."""
        return self._connected.version

    @property
    def digest(self) -> str:
        """Digest of the policy behind the latest response."""
        return self._connected.digest

    @property
    def _connected(self) -> Remote:
        if not self._remote.is_connected:
            raise ServerError(f"{self._remote.url}: not connected yet; `await policy.connect()` first")
        return self._remote

    async def act(
        self,
        observations: Any,
        deterministic: bool = True,
        seed: int | None = None,
        budget_ms: float | None = None,
    ) -> Actions:
        """As `PolicyClient.act`. A client that is not connected connects first, which `budget_ms` does not limit.

        Only then is the card's fallback known, so connecting has `timeout_s`.
        """
        began = time.monotonic()
        check_budget(budget_ms)
        await self.connect()
        arrays = self._remote.collect(observations)
        asked = Request(Question(arrays), "", deterministic, seed, budget_ms, began)
        return (await self._answer(asked)).actions

    def start_episode(self, episode_id: str | None = None) -> AsyncEpisode:
        """As `PolicyClient.start_episode`. Any number of episodes may act at once."""
        return AsyncEpisode(self._connected_card, self._step, episode_id)

    async def _connected_card(self) -> Card:
        await self.connect()
        return self.card

    async def _step(self, asked: Request) -> Answer:
        return await self._answer(self._remote.checked(asked))

    async def _answer(self, asked: Request) -> Answer:
        rows = len(next(iter(asked.question.arrays.values())))
        headers, body = self._remote.request(asked)
        try:
            response = await self._send("POST", self._remote.path, headers, body, asked.ends)
            answer = self._remote.answer(response.status, response.headers, response.content, rows)
            if self._remote.is_new(answer.digest):
                await self._fetch_card(asked.ends, answer.digest)
        except OverBudget:
            return self._remote.fallback(rows)
        return answer if asked.ends is None or time.monotonic() < asked.ends else self._remote.fallback(rows)

    async def connect(self) -> None:
        """Fetches the served policy's card, unless it is known; raises as the constructor of `PolicyClient`."""
        if not self._remote.is_connected:
            await self._fetch_card()

    async def _fetch_card(self, ends: float | None = None, answered: str | None = None) -> None:
        answer = await self._send("GET", "/metadata", self._remote.headers, None, ends)
        self._remote.read_metadata(answer.status, answer.content, answered)

    async def _send(
        self, method: str, path: str, headers: Headers, body: bytes | None, budget_ends: float | None
    ) -> httpcore.Response:
        left = self._timeout_s
        if budget_ends is not None:
            left = min(left, budget_ends - time.monotonic())
            if left <= 0:
                raise OverBudget
        try:
            async with asyncio.timeout(left):
                return await self._send_with_retries(method, self._remote.origin + path, headers, body)
        except FAILED as error:  # including TimeoutError
            raise failure(self._remote.url, error, budget_ends) from error

    async def _send_with_retries(
        self, method: str, url: str, headers: Headers, body: bytes | None
    ) -> httpcore.Response:
        while True:  # each iteration finds another kept-alive connection closed, or opens one
            attempt = Attempt()
            try:
                return await self._pool.request(
                    method, url, headers=headers, content=body, extensions={"trace": attempt.record_async}
                )
            except FAILED as error:
                if not attempt.may_repeat(error):
                    raise

    async def close(self) -> None:
        """Closes the connections."""
        await self._pool.aclose()

    async def __aenter__(self) -> Self:
        try:
            await self.connect()
        except BaseException:
            await self.close()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()
