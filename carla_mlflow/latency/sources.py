"""Where a decision's latency comes from: a constant, a trace, or a clock that is read while it is asked for."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar, Literal, Protocol

from .trace import Trace

Kind = Literal["constant", "trace", "measured"]


class LatencySource(Protocol):
    """Says of every request how long its answer is under way."""

    @property
    def kind(self) -> Kind:
        """What the source is."""

    def of(self, seed: int, request: int) -> int | None:
        """The latency of one request, microseconds; the same for everybody who asks with these numbers.

        Args:
            seed: of the episode.
            request: counted from 0 within the episode.

        Returns:
            None when it has to be measured.
        """

    def condition(self, applied: Trace) -> str:
        """Its name as a condition of evidence, of the latencies that were applied: equal only for equal latencies."""


@dataclass(frozen=True)
class Constant:
    """The same for every request."""

    us: int
    kind: ClassVar[Kind] = "constant"

    def of(self, seed: int, request: int) -> int:
        return self.us

    def condition(self, applied: Trace) -> str:
        return f"{self.us / 1e3:.15g}ms"


@dataclass(frozen=True)
class Replayed:
    """A trace, in its order, since latencies come in bursts.

    An episode begins at the first row of its seed, where the trace has one, so that a measured drive can be driven
    again; else at a row that the seed alone chooses. After the last row comes the first.
    """

    trace: Trace
    kind: ClassVar[Kind] = "trace"

    @cached_property
    def _firsts(self) -> dict[int, int]:
        return self.trace.firsts()

    def of(self, seed: int, request: int) -> int:
        return self.trace.us[(self._first(seed) + request) % len(self.trace.us)]

    def _first(self, seed: int) -> int:
        first = self._firsts.get(seed)
        if first is None:
            drawn = int.from_bytes(hashlib.sha256(str(seed).encode()).digest()[:8], "big")
            first = drawn % len(self.trace.us)
        return first

    def condition(self, applied: Trace) -> str:
        return self.trace.name


@dataclass(frozen=True)
class Measured:
    """As long as the answer really takes; what was applied is a trace afterwards, and named like one."""

    kind: ClassVar[Kind] = "measured"

    def of(self, seed: int, request: int) -> None:
        return None

    def condition(self, applied: Trace) -> str:
        return applied.name
