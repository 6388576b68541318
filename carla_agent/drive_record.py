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
        episode_id: the name of the episode in requests; None before the first route.
        stretches: semantic version and decisions that it made, one entry each time that another version began to drive.
        fallbacks: reason → decisions at which the fallback drove instead. `no_data`: an observer had none yet;
            `observer`: one failed, such as where the car is gone; `late`: no action within the budget; `unreachable`:
            no server; `not_ready` and other error codes: the server refused (`refused` where it gave no code);
            `contract`: it serves another contract now; `observation`: a value did not fit the card; `action` and
            `policy`: the policy in this process failed.
        unseen: reason → ticks at which an action held and the observation was missing or did not fit, so that a policy
            with a history saw the frame before once more.
        restarts: reason → how often the policy began anew within the route; see `Episode.restarts`.
        latencies_ms: of every decision by the policy, milliseconds.
    """

    episode_id: str | None = None
    stretches: list[tuple[str, int]] = field(default_factory=list)
    fallbacks: Counter[str] = field(default_factory=Counter)
    unseen: Counter[str] = field(default_factory=Counter)
    restarts: Counter[str] = field(default_factory=Counter)
    latencies_ms: array[float] = field(default_factory=lambda: array("d"))

    @property
    def decisions(self) -> int:
        """Decisions in all, by the policy or the fallback."""
        return len(self.latencies_ms) + self.fallbacks.total()

    @property
    def versions(self) -> dict[str, int]:
        """Semantic version → decisions that it made."""
        made: Counter[str] = Counter()
        for version, count in self.stretches:
            made[version] += count
        return dict(made)

    def decided(self, latency_ms: float, version: str) -> None:
        """Counts a decision by the policy."""
        if self.stretches and self.stretches[-1][0] == version:
            self.stretches[-1] = (version, self.stretches[-1][1] + 1)
        else:
            self.stretches.append((version, 1))
        self.latencies_ms.append(latency_ms)

    def fell_back(self, reason: str) -> None:
        """Counts a decision at which the fallback drove."""
        self.fallbacks[reason] += 1

    def latency_ms(self, percent: float) -> float | None:
        """That percentile of the latencies, milliseconds; None when the policy never decided."""
        return float(np.percentile(self.latencies_ms, percent)) if self.latencies_ms else None
