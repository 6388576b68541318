"""The latency under which a policy has driven, as its evidence has it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from carla_mlflow.latency.sources import Replayed
from carla_mlflow.latency.trace import Trace
from training_export.evaluation.delayed import Delay

LATENCY, TRACE_FILE = "latency", "latency.parquet"
"""What the figures of the distribution are logged under, and the artifact with the trace."""


@dataclass(frozen=True)
class AppliedLatency:
    """What a policy drove under.

    Attributes:
        delay: what was asked for.
        applied: the latency of each request.
        late: requests whose answer came after the budget.
        server: the address that answered, without a user's name or password; None for the engine in this process.
    """

    delay: Delay
    applied: Trace
    late: int
    server: str | None = None

    def parameters(self) -> dict[str, Any]:
        """The run's parameters; `latency` and `budget_ms` are conditions."""
        source = self.delay.source
        return {
            "latency": source.condition(self.applied),
            "budget_ms": self.delay.budget_ms,
            "latency_kind": source.kind,
            "latency_requests": len(self.applied.us),
            "latency_late": self.late,
            "through": self.server,
        }

    @property
    def trace(self) -> Trace:
        """By which others drive under an equal condition: what a trace was given as, else what was applied."""
        source = self.again().source
        return source.trace if isinstance(source, Replayed) else self.applied

    def again(self) -> Delay:
        """Under which others drive alike: a measured latency as the trace that it has become."""
        if self.delay.source.kind != "measured":
            return self.delay
        return replace(self.delay, source=Replayed(self.applied))

    def __str__(self) -> str:
        """As people read it."""
        figures = self.applied.figures()
        told = ", ".join(f"{name.removesuffix('_ms')} {value:g}" for name, value in figures.items())
        budget = self.delay.budget_ms
        kept = "" if budget is None else f"; budget {budget:g} ms, {self.late:,} of {len(self.applied.us):,} late"
        name = self.delay.source.condition(self.applied)
        return f"latency {name} ({self.delay.source.kind}): {told} ms{kept}"
