"""Rounds of measurements → medians, and a table of them."""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass, field

from benchmarks.speed.baseline import LESS, MORE, Figure, Figures
from benchmarks.speed.wrk import Found
from benchmarks.support.percentiles import median
from benchmarks.support.table import Column, Table, short

COLUMNS = (
    "c1 p50",
    "c1 p99",
    "c16 /s",
    "c16 p99",
    "c64 /s",
    "c64 p99",
    "256: obs/s",
    "PSS MB",
    "one",
    "start s",
    "failed",
)
TABLE = Table("", 26, tuple(Column(name, 11) for name in COLUMNS))
SEEN = {
    "c1 p50": ("c1", "p50_ms"),
    "c1 p99": ("c1", "p99_ms"),
    "c16 /s": ("c16", "per_second"),
    "c16 p99": ("c16", "p99_ms"),
}
SEEN |= {"c64 /s": ("c64", "per_second"), "c64 p99": ("c64", "p99_ms"), "256: obs/s": ("b256", "per_second")}


@dataclass
class Row:
    """One system's measurements of all rounds, or the problem that ended them."""

    loads: dict[str, list[Found]] = field(default_factory=lambda: defaultdict(list))
    whole_mb: list[float] = field(default_factory=list)
    heaviest_mb: list[float] = field(default_factory=list)
    started_s: list[float] = field(default_factory=list)
    problem: str | None = None

    def figures(self) -> dict[str, float]:
        """Column → median; `failed` is a sum."""
        found = {name: self._median(*of) for name, of in SEEN.items()}
        found["256: obs/s"] *= 256
        found["PSS MB"], found["one"] = median(self.whole_mb), median(self.heaviest_mb)
        found["start s"] = median(self.started_s)
        found["failed"] = sum(each.failed for load in self.loads.values() for each in load)
        return found

    def _median(self, load: str, what: str) -> float:
        return median([getattr(found, what) for found in self.loads[load]])


def print_table(kind: str, rows: dict[str, Row]) -> None:
    """Prints one line per system."""
    print(f"\n{kind}: p50 and p99 in ms, c16 and c64: connections, 256: 2 connections with 256 observations a request;")
    print("PSS of all its processes and of the heaviest one; start to the first answer; requests that failed")
    TABLE.print_heading()
    for name, row in rows.items():
        if row.problem:
            TABLE.print_row(name, note=f"  left out: {row.problem}")
        else:
            figures = row.figures()
            TABLE.print_row(name, *(short(figures[column]) for column in COLUMNS))


def figures_of(kind: str, rows: dict[str, Row]) -> Figures:
    """The medians of every system that was measured, but for its start and its failures."""
    return {
        f"{kind}: {name}, {column}": Figure(value, MORE if column.endswith("/s") else LESS)
        for name, row in rows.items()
        if not row.problem
        for column, value in row.figures().items()
        if column not in ("start s", "failed") and not math.isnan(value)
    }


def print_forwards(kind: str, rates: dict[int, dict[int, list[float]]]) -> None:
    """Prints the bare forward's observations per second, by threads and rows per call."""
    for threads, by_rows in rates.items():
        cells = "  ".join(f"{rows}: {median(values):,.0f}" for rows, values in by_rows.items())
        print(f"{kind}: bare forward, {threads} thread{'s' if threads > 1 else ''}, observations/s by rows  {cells}")
