"""Rounds of measurements → medians, a table, and the ratios that a release has to meet."""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass, field, replace
from statistics import median

from benchmarks.baseline import LESS, MORE, Figure, Figures
from benchmarks.wrk import Found

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
SEEN = {
    "c1 p50": ("c1", "p50_ms"),
    "c1 p99": ("c1", "p99_ms"),
    "c16 /s": ("c16", "per_second"),
    "c16 p99": ("c16", "p99_ms"),
}
SEEN |= {"c64 /s": ("c64", "per_second"), "c64 p99": ("c64", "p99_ms"), "256: obs/s": ("b256", "per_second")}
OURS_JSON, OURS_V2 = "carla-serve, JSON", "carla-serve, /v2 binary"


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
        found["PSS MB"], found["one"] = _median(self.whole_mb), _median(self.heaviest_mb)
        found["start s"] = _median(self.started_s)
        found["failed"] = sum(each.failed for load in self.loads.values() for each in load)
        return found

    def _median(self, load: str, what: str) -> float:
        return _median([getattr(found, what) for found in self.loads[load]])


def _median(values: list[float]) -> float:
    return median(values) if values else math.nan


def print_table(kind: str, rows: dict[str, Row]) -> None:
    """Prints one line per system."""
    print(f"\n{kind}: p50 and p99 in ms, c16 and c64: connections, 256: 2 connections with 256 observations a request;")
    print("PSS of all its processes and of the heaviest one; start to the first answer; requests that failed")
    print(f"{'':26}" + "".join(f"{name:>11}" for name in COLUMNS))
    for name, row in rows.items():
        if row.problem:
            print(f"{name:26}  left out: {row.problem}")
        else:
            figures = row.figures()
            print(f"{name:26}" + "".join(f"{_short(figures[column]):>11}" for column in COLUMNS))


def figures_of(kind: str, rows: dict[str, Row]) -> Figures:
    """The medians of every system that was measured, but for its start and its failures."""
    return {
        f"{kind}: {name}, {column}": Figure(value, MORE if column.endswith("/s") else LESS)
        for name, row in rows.items()
        if not row.problem
        for column, value in row.figures().items()
        if column not in ("start s", "failed") and not math.isnan(value)
    }


def _short(value: float) -> str:
    if math.isnan(value):
        return "–"
    return f"{value:,.0f}" if value >= 100 or value == int(value) else f"{value:.3g}"


def print_forwards(kind: str, rates: dict[int, dict[int, list[float]]]) -> None:
    """Prints the bare forward's observations per second, by threads and rows per call."""
    for threads, by_rows in rates.items():
        cells = "  ".join(f"{rows}: {median(values):,.0f}" for rows, values in by_rows.items())
        print(f"{kind}: bare forward, {threads} thread{'s' if threads > 1 else ''}, observations/s by rows  {cells}")


@dataclass(frozen=True)
class Ratio:
    """One ratio of ours to theirs and its aim, an upper limit when `most`, else a lower one."""

    what: str
    ours: float
    theirs: float
    aim: float
    most: bool = False

    @property
    def verdict(self) -> str:
        """Whether the aim is `met`, `MISSED` or `not measured`."""
        ratio = self.ratio
        if math.isnan(ratio):
            return "not measured"
        return "met" if (ratio <= self.aim if self.most else ratio >= self.aim) else "MISSED"

    @property
    def ratio(self) -> float:
        return self.ours / self.theirs if self.theirs else math.nan

    def __str__(self) -> str:
        sign = "≤" if self.most else "≥"
        numbers = f"{_short(self.ours):>10}{_short(self.theirs):>12}{_short(self.ratio):>9}"
        return f"{self.what:58}{numbers}   {sign} {self.aim:<5g} {self.verdict}"


Columns = dict[str, float]


def ratios(kind: str, rows: dict[str, Row], forward: dict[int, dict[int, list[float]]]) -> list[Ratio]:
    """The ratios of ours to the best peer in each column."""
    figures = {name: row.figures() for name, row in rows.items() if not row.problem}
    peers = {name: f for name, f in figures.items() if not name.startswith(("carla-serve", "floor"))}
    main = figures.get(OURS_JSON if kind == "mlp" else OURS_V2, {})
    found = _of_mlp(peers, main, figures.get(OURS_V2, {})) if kind == "mlp" else _of_image(peers, main, forward)
    one = {"PSS MB": main.get("one", math.nan)}
    found.append(_against("memory of one worker (PSS, MB)", peers, "PSS MB", one, 1, most=True))
    found.append(Ratio("seconds to the first answer, against 1 s", main.get("start s", math.nan), 1, 2, most=True))
    return [replace(ratio, what=f"{kind}: {ratio.what}") for ratio in found]


def _of_mlp(peers: dict[str, Columns], main: Columns, binary: Columns) -> list[Ratio]:
    mlflow = {name: figures for name, figures in peers.items() if name.startswith("mlflow")}
    return [
        _against("1 connection, p50 ms", peers, "c1 p50", main, 0.6, most=True),
        _against("16 connections, requests/s", peers, "c16 /s", main, 5),
        _against("16 connections, p99 ms", peers, "c16 p99", main, 0.4, most=True),
        _against("64 connections, requests/s", peers, "c64 /s", main, 2),
        _against("256 a request in JSON, observations/s", peers, "256: obs/s", main, 1),
        _against("256 a request in /v2 binary, observations/s", peers, "256: obs/s", binary, 2),
        _against("16 connections, requests/s, mlflow's", mlflow, "c16 /s", main, 35),
        _against("64 connections, requests/s, mlflow's", mlflow, "c64 /s", main, 35),
    ]


def _of_image(peers: dict[str, Columns], main: Columns, forward: dict[int, dict[int, list[float]]]) -> list[Ratio]:
    bare = max((median(values) for values in forward[max(forward)].values()), default=math.nan)
    columns = {"16 connections": "c16 /s", "64 connections": "c64 /s", "256 a request": "256: obs/s"}
    aims = {"16 connections": 1.2, "64 connections": 1.2, "256 a request": 2.5}
    return [
        *(_against(f"{load}, observations/s", peers, column, main, aims[load]) for load, column in columns.items()),
        *(
            Ratio(f"{load}, the bare forward on all cores", main.get(column, math.nan), bare, 0.9)
            for load, column in columns.items()
        ),
    ]


def _against(what: str, peers: dict[str, Columns], column: str, ours: Columns, aim: float, most: bool = False) -> Ratio:
    """The ratio of ours to the best peer in a column."""
    known = [figures[column] for figures in peers.values() if not math.isnan(figures[column])]
    best = (min if most else max)(known, default=math.nan)
    return Ratio(what, ours.get(column, math.nan), best, aim, most)


def print_ratios(found: list[Ratio]) -> None:
    print(f"\n{'':58}{'ours':>10}{'theirs':>12}{'ratio':>9}   aim")
    for ratio in found:
        print(ratio)
