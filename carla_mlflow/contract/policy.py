"""What acts, wherever it runs: the engine in this process, its result cache, or a client of a server."""

from __future__ import annotations

from typing import Any, Protocol

from .actions import Actions
from .card import Card


class Policy(Protocol):
    """A policy that is asked and answers. `Engine`, `ResultCache` and `PolicyClient` are ones."""

    @property
    def card(self) -> Card:
        """Of the policy."""

    @property
    def digest(self) -> str:
        """Of its artifact: `sha256:` and 64 hex digits."""

    def act(self, observations: Any, deterministic: bool = True, seed: int | None = None) -> Actions:
        """Decides. Arguments, result and errors as those of `Engine.act`."""


class AsyncPolicy(Protocol):
    """The same for asyncio. `AsyncPolicyClient` is one."""

    @property
    def card(self) -> Card:
        """Of the policy."""

    @property
    def digest(self) -> str:
        """Of its artifact: `sha256:` and 64 hex digits."""

    async def act(self, observations: Any, deterministic: bool = True, seed: int | None = None) -> Actions:
        """Decides. Arguments, result and errors as those of `Engine.act`."""
