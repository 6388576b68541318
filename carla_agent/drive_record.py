"""What happened on a route: decisions, fallbacks by reason, versions that drove, and latencies."""

from __future__ import annotations

from array import array
from collections import Counter
from dataclasses import dataclass, field

import numpy as np


@dataclass
class DriveRecord:
    """Counts of one route.

    Attributes:
        episode_id: the name of the episode in requests; None for a policy in this process.
        versions: semantic version → decisions that it made, in the order in which they drove.
        fallbacks: reason → decisions at which the fallback drove instead. `no_data`: an observer had none yet;
            `late`: no action within the budget; `unreachable`: no server; `refused`: the server answered with an error;
            `contract`: it serves another contract now; `observation`: a value did not fit the card; `action` and
            `policy`: the policy in this process failed.
        latencies_ms: of every decision by the policy, milliseconds.
    """

    episode_id: str | None = None
    versions: Counter[str] = field(default_factory=Counter)
    fallbacks: Counter[str] = field(default_factory=Counter)
    latencies_ms: array[float] = field(default_factory=lambda: array("d"))

    @property
    def decisions(self) -> int:
        """Decisions in all, by the policy or the fallback."""
        return self.versions.total() + self.fallbacks.total()

    def decided(self, latency_ms: float, version: str) -> None:
        """Counts a decision by the policy."""
        self.versions[version] += 1
        self.latencies_ms.append(latency_ms)

    def fell_back(self, reason: str) -> None:
        """Counts a decision at which the fallback drove."""
        self.fallbacks[reason] += 1

    def latency_ms(self, percent: float) -> float | None:
        """That percentile of the latencies, milliseconds; None when the policy never decided."""
        return float(np.percentile(self.latencies_ms, percent)) if self.latencies_ms else None
