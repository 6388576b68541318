"""The interface of everything that acts: the engine in this process, its result cache, or a client of a server."""

from __future__ import annotations

from typing import Any, Protocol

from .actions import Actions
from .card import Card
from .running_episode import AsyncEpisode, Episode


class Policy(Protocol):
    """Turns observations into actions: `Engine`, `ResultCache` and `PolicyClient` do."""

    @property
    def card(self) -> Card:
        """The policy's card."""

    @property
    def digest(self) -> str:
        """The artifact's digest: `sha256:` and 64 hex digits."""

    def act(
        self,
        observations: Any,
        deterministic: bool = True,
        seed: int | None = None,
        budget_ms: float | None = None,
    ) -> Actions:
        """Computes actions; arguments, result and errors as `Engine.act`.

        A policy with a memory needs its state of the step before, which an episode keeps.
        """

    def start_episode(self, episode_id: str | None = None) -> Episode:
        """Begins an episode, which keeps the policy's memory, history and version; a random id where none is given."""


class AsyncPolicy(Protocol):
    """`Policy` for asyncio: `AsyncPolicyClient` is one."""

    @property
    def card(self) -> Card:
        """The policy's card."""

    @property
    def digest(self) -> str:
        """The artifact's digest: `sha256:` and 64 hex digits."""

    async def act(
        self,
        observations: Any,
        deterministic: bool = True,
        seed: int | None = None,
        budget_ms: float | None = None,
    ) -> Actions:
        """Computes actions; arguments, result and errors as `Engine.act`.

        A policy with a memory needs its state of the step before, which an episode keeps.
        """

    def start_episode(self, episode_id: str | None = None) -> AsyncEpisode:
        """Begins an episode, which keeps the policy's memory, history and version; a random id where none is given."""
