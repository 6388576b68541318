"""The latency under which a policy drove: a condition of its evidence, and its distribution. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

LATENCY, BUDGET = "latency", "budget_ms"
"""The parameters of an evaluation; both are absent where the world waited for the policy's actions."""
FIGURES = ("p50_ms", "p90_ms", "p99_ms", "max_ms")
"""The distribution of the applied latencies, as `evaluate` logs it; milliseconds."""
_TRACE = "trace:"


@dataclass(frozen=True)
class Latency:
    """Under which latency an evaluation was driven.

    Attributes:
        kind: constant, trace or measured; empty where nobody said.
        figures: name of FIGURES → milliseconds; those that are known.
    """

    kind: str
    figures: Mapping[str, float]

    def __str__(self) -> str:
        known = [name for name in FIGURES if name in self.figures]
        told = ", ".join(f"{name.removesuffix('_ms')} {self.figures[name]:g}" for name in known)
        return ": ".join(filter(None, (self.kind, f"{told} ms" if told else "")))


def say_latency(conditions: Mapping[str, str], latency: Latency | None) -> str:
    """The end of a finding, such as `, at a latency of 35ms`; empty for evidence whose world waited for its actions."""
    if LATENCY not in conditions:
        return ""
    told = f" ({latency})" if latency and str(latency) else ""
    budget = f", budget {conditions[BUDGET]} ms" if BUDGET in conditions else ""
    return f", at a latency of {conditions[LATENCY]}{told}{budget}"


def latency_flag(condition: str, run_id: str) -> str:
    """What `evaluate --latency` takes to drive under the latency of that run again."""
    return f"runs:/{run_id}/latency.parquet" if condition.startswith(_TRACE) else condition
