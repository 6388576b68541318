"""The action that applies now, and the one that is under way: at most one. All times are simulated, microseconds."""

from __future__ import annotations

from typing import Generic, TypeVar

A = TypeVar("A")


class InFlight(Generic[A]):
    """What a car does while its policy decides: the previous action, until the next one has landed."""

    def __init__(self, first: A) -> None:
        """Begins with an action that applies before any has landed: the card's fallback, since none was decided."""
        self._current = first
        self._coming: A | None = None
        self._lands_us = 0

    @property
    def is_under_way(self) -> bool:
        """Whether an action has not landed yet; nobody asks meanwhile."""
        return self._coming is not None

    def send(self, action: A, lands_us: int) -> None:
        """Sends an action that lands at that time."""
        self._coming, self._lands_us = action, lands_us

    def at(self, now_us: int) -> A:
        """The action of the simulation step that begins now; times must not go back."""
        if self._coming is not None and self._lands_us <= now_us:
            self._current, self._coming = self._coming, None
        return self._current


def is_late(latency_us: int, budget_us: int | None) -> bool:
    """Whether an answer comes after its budget, so that the card's fallback applies once the budget is over."""
    return budget_us is not None and latency_us > budget_us
