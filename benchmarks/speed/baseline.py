"""Figures of a benchmark as JSON, and held against those of an earlier run on the same machine."""

from __future__ import annotations

import argparse
import math
import sys
from pathlib import Path

import msgspec

LESS, MORE = "less", "more"


class Figure(msgspec.Struct, frozen=True):
    """One measured value.

    Attributes:
        value: in the unit that its name says.
        better: `less` or `more`.
    """

    value: float
    better: str


Figures = dict[str, Figure]
"""What was measured → its figure."""


def share(text: str) -> float:
    """An argparse type: `10%` or `0.1` → 0.1."""
    value = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    if not 0 <= value < math.inf:
        raise argparse.ArgumentTypeError(f"{text} is not a share such as 10% or 0.1")
    return value


def add_baseline(parser: argparse.ArgumentParser) -> None:
    """Adds --json, --baseline and --worse-by."""
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there")
    parser.add_argument("--baseline", type=Path, metavar="FILE", help="compare with the figures of an earlier --json")
    parser.add_argument("--worse-by", type=share, default=0.1, metavar="SHARE", help="how much worse one may be (10%%)")


def conclude(figures: Figures, options: argparse.Namespace) -> int:
    """Writes and compares what the flags ask for; the exit code: 1 when a figure is worse than it may be."""
    if options.json:
        options.json.write_bytes(msgspec.json.format(msgspec.json.encode(figures)))
    if not options.baseline:
        return 0
    before = msgspec.json.decode(options.baseline.read_bytes(), type=Figures)
    lines = worse(before, figures, options.worse_by)
    for line in lines:
        print(line, file=sys.stderr)
    compared = len(before.keys() & figures.keys())
    print(f"{compared} figures beside {options.baseline}: {len(lines)} worse by more than {options.worse_by:.0%}")
    return int(bool(lines) or not compared)


def worse(before: Figures, now: Figures, by: float) -> list[str]:
    """The figures of both runs that are worse now by more than a share, in words."""
    found = []
    for name, figure in now.items():
        old = before.get(name)
        if old is None or math.isnan(old.value) or math.isnan(figure.value):
            continue
        low, high = (figure.value, old.value) if figure.better == LESS else (old.value, figure.value)
        if low > high * (1 + by):
            found.append(f"worse: {name}: {old.value:.4g} → {figure.value:.4g}")
    return found
