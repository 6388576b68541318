"""The ratios of our server to the best of the others, which a release has to meet."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from benchmarks.speed.rows import Row
from benchmarks.support.percentiles import median
from benchmarks.support.table import Column, Table, short

OURS_JSON, OURS_V2 = "carla-serve, JSON", "carla-serve, /v2 binary"


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


Columns = dict[str, float]


def ratios(kind: str, rows: dict[str, Row], forward: dict[int, dict[int, list[float]]]) -> list[Ratio]:
    """The ratios of ours to the best peer in each column; none for a policy with a memory, which no peer keeps."""
    if kind == "lstm":
        return []
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


TABLE = Table("", 58, (Column("ours", 10), Column("theirs", 12), Column("ratio", 9)))


def print_ratios(found: list[Ratio]) -> None:
    print()
    TABLE.print_heading("   aim")
    for each in found:
        aim = f"   {'≤' if each.most else '≥'} {each.aim:<5g} {each.verdict}"
        TABLE.print_row(each.what, short(each.ours), short(each.theirs), short(each.ratio), note=aim)
