"""Prints aligned tables, row by row, as a benchmark finds them: a long one shows its first rows before its last."""

from __future__ import annotations

import math
from dataclasses import dataclass

Cell = float | str


@dataclass(frozen=True)
class Column:
    """A column of numbers, or of short texts.

    Attributes:
        heading: printed above it.
        width: in characters, with the space to the column before.
        format: of its numbers, such as `,.1f`.
    """

    heading: str
    width: int
    format: str = ""

    def cell(self, value: Cell) -> str:
        """The value, aligned to the right; a dash for NaN."""
        if isinstance(value, str):
            return value.rjust(self.width)
        return ("–" if math.isnan(value) else format(value, self.format)).rjust(self.width)


@dataclass(frozen=True)
class Table:
    """Columns of numbers beside one of names.

    Attributes:
        heading: printed above the names.
        width: of the names, in characters.
        columns: the others.
    """

    heading: str
    width: int
    columns: tuple[Column, ...]

    def print_heading(self, note: str = "") -> None:
        """Prints all headings, and a note behind them."""
        cells = "".join(column.heading.rjust(column.width) for column in self.columns)
        print(f"{self.heading:{self.width}}{cells}{note}".rstrip(), flush=True)

    def print_row(self, name: str, *cells: Cell, note: str = "") -> None:
        """Prints one row, which may have fewer cells than there are columns, and a note behind it."""
        text = "".join(column.cell(value) for column, value in zip(self.columns, cells, strict=False))
        print(f"{name:{self.width}}{text}{note}", flush=True)


def short(value: float) -> str:
    """Three digits of a small number, all digits of a large one; a dash for NaN."""
    if math.isnan(value):
        return "–"
    return f"{value:,.0f}" if value >= 100 or value == int(value) else f"{value:.3g}"
