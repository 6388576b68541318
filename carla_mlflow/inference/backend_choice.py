"""Measures which backend is faster on this machine."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

from ..artifact.artifact import Artifact
from ..errors import ArtifactError, CarlaMlflowError
from .engine import Engine

ROWS = (1, 32)
"""The measured batch sizes: one car's request, and a batch of a server under load."""
ROUNDS, CALLS = 5, 20
SLOW_MS, SLOW_CALLS = 2.0, 2
"""A network slower than SLOW_MS is called only SLOW_CALLS times per round, since its timings vary less."""

MARGIN = 1.05
"""Two backends within this factor count as equally fast, since noise would decide between them."""

Figures = dict[str, dict[int, float]]


def measure(engines: Mapping[str, Engine]) -> Figures:
    """Median milliseconds of `act` by backend and rows; the backends take turns, so that noise hits all alike."""
    timings: dict[str, dict[int, list[float]]] = {name: {rows: [] for rows in ROWS} for name in engines}
    for rows in ROWS:
        calls = {name: SLOW_CALLS if max(e.warm_up(rows)[1:]) > SLOW_MS else CALLS for name, e in engines.items()}
        for _ in range(ROUNDS):
            for name, engine in engines.items():
                timings[name][rows] += engine.warm_up(rows, calls[name])
    return {name: {rows: round(median(t), 4) for rows, t in by_rows.items()} for name, by_rows in timings.items()}


def fastest(figures: Figures, preferred: str | None = None) -> str:
    """The backend with the smallest geometric mean over batch sizes, or `preferred` if it is within MARGIN of it."""
    means = {name: math.prod(times.values()) ** (1 / len(times)) for name, times in figures.items()}
    best = min(means, key=means.__getitem__)
    return preferred if preferred in means and means[preferred] <= MARGIN * means[best] else best


def load_fastest(artifact: Artifact, device: str, trusted: Sequence[str] = ()) -> tuple[Engine, dict[str, Any]]:
    """Loads every backend that the artifact is for, and keeps the fastest of those in parity.

    OpenVINO is among them only where the card names it: it is chosen by people, not by a measurement.

    Returns:
        The engine, and a report for people: milliseconds by backend and rows, or why a backend was left out.

    Raises:
        ArtifactError: no backend is in parity here; says why for each.
    """
    engines: dict[str, Engine] = {}
    report: dict[str, Any] = {}
    for name in artifact.backends:
        try:
            engines[name] = Engine(artifact, device, name, trusted)
        except (CarlaMlflowError, ImportError) as error:
            report[name] = str(error)
    if not engines:
        raise ArtifactError("no backend is in parity here: " + "; ".join(f"{n}: {text}" for n, text in report.items()))
    figures = measure(engines)
    report |= {name: {f"{rows}_rows_ms": ms for rows, ms in by_rows.items()} for name, by_rows in figures.items()}
    return engines[fastest(figures, artifact.card.backend)], report
