"""What servers counted of one version: counters and histograms, and how much they grew between two looks. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

Key = tuple[str, frozenset[tuple[str, str]]]
"""Name of a sample in /metrics, and its labels."""


@dataclass(frozen=True)
class Scrape:
    """One look at a server's /metrics.

    Attributes:
        samples: its counters and histograms; those of histograms are cumulative, as Prometheus has them.
        started: when the server was started, seconds since 1970; 0 where it does not tell.
    """

    samples: Mapping[Key, float]
    started: float = 0.0

    @property
    def versions(self) -> set[str]:
        """The versions that it has counted anything of."""
        return {version_of(key) for key in self.samples}


def version_of(key: Key) -> str:
    """The version that a sample is about; empty for none."""
    return next((value for name, value in key[1] if name == "version"), "")


def growth(before: Scrape | None, now: Scrape) -> dict[Key, float]:
    """How much a server's counters grew between two looks.

    A server that was started again counts from 0, and so does a counter that is lower than before, or that a version
    has for the first time. A version that was not there before is left out: its counts may be of long ago.
    """
    if before is None:
        return {}
    if before.started != now.started:
        return dict(now.samples)
    there, grown = before.versions, dict[Key, float]()
    for key, value in now.samples.items():
        if version_of(key) in there:
            was = before.samples.get(key, 0.0)
            grown[key] = value - was if value >= was else value
    return grown


def added(parts: Iterable[Mapping[Key, float]]) -> dict[Key, float]:
    """The sum of what several servers counted."""
    total: dict[Key, float] = {}
    for part in parts:
        for key, value in part.items():
            total[key] = total.get(key, 0.0) + value
    return total


class Counted:
    """What was counted of one version in some span of time."""

    def __init__(self, samples: Mapping[Key, float], version: str) -> None:
        mark = ("version", version)
        self._by_name: dict[str, list[tuple[dict[str, str], float]]] = {}
        for (name, labels), value in samples.items():
            if mark in labels:
                self._by_name.setdefault(name, []).append((dict(labels), value))

    def total(self, name: str, **labels: str) -> float:
        """The sum of a counter's samples that have these labels."""
        return sum(value for _, value in self._having(name, labels))

    def names(self, name: str, label: str) -> list[str]:
        """The values of a label of a counter, in order."""
        return sorted({having[label] for having, _ in self._having(name, {}) if label in having})

    def buckets(self, name: str, **labels: str) -> list[tuple[float, float]]:
        """A histogram's upper bounds, the last infinite, and how many values lie at or below each."""
        counts: dict[float, float] = {}
        for having, value in self._having(f"{name}_bucket", labels):
            bound = float(having["le"])
            counts[bound] = counts.get(bound, 0.0) + value
        return sorted(counts.items())

    def _having(self, name: str, labels: Mapping[str, str]) -> list[tuple[dict[str, str], float]]:
        found = self._by_name.get(name, ())
        return [(having, value) for having, value in found if labels.items() <= having.items()]
