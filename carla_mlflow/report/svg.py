"""Plots as inline SVG, whose colours are the page's variables, so that they are light or dark with it."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import NamedTuple

WIDTH, HEIGHT = 720, 200
LEFT, BOTTOM, TOP = 48, 36, 12


def bars(labels: Sequence[str], shares: Sequence[float], title: str) -> str:
    """A bar a label.

    Args:
        labels: below the bars.
        shares: from 0 to 1, one a label.
        title: for readers who don't see it.
    """
    top = max(shares, default=0.0) or 1.0
    step = (WIDTH - LEFT) / max(1, len(labels))
    parts = [_axis(f"{top:.0%}", "0 %")]
    for place, (label, share) in enumerate(zip(labels, shares, strict=True)):
        x, tall = LEFT + place * step, share / top * (HEIGHT - BOTTOM - TOP)
        y = HEIGHT - BOTTOM - tall
        parts.append(f'<rect class="bar" x="{x + 2:.1f}" y="{y:.1f}" width="{step - 4:.1f}" height="{tall:.1f}">')
        parts.append(f"<title>{escape(label)}: {share:.4%}</title></rect>")
        middle = x + step / 2
        parts.append(f'<text x="{middle:.1f}" y="{HEIGHT - BOTTOM + 16}" text-anchor="middle">{escape(label)}</text>')
    return _svg(parts, title)


def line(values: Sequence[float | None], first: str, last: str, title: str) -> str:
    """Values over time, each as a line from zero; nothing where there is none.

    Args:
        values: at least 0.
        first: when the first value is.
        last: when the last one is.
        title: for readers who don't see it.
    """
    top = max((value for value in values if value is not None), default=0.0) or 1.0
    step, floor = (WIDTH - LEFT) / max(1, len(values)), HEIGHT - BOTTOM
    points = [(LEFT + (i + 0.5) * step, floor - v / top * (floor - TOP)) for i, v in enumerate(values) if v is not None]
    path = " ".join(f"M{x:.1f},{floor}V{y:.1f}" for x, y in points)
    parts = [_axis(f"{top:.3g}", "0"), f'<path class="stroke" d="{path}"/>' if path else ""]
    parts.append(f'<text x="{LEFT}" y="{floor + 16}">{escape(first)}</text>')
    parts.append(f'<text x="{WIDTH}" y="{floor + 16}" text-anchor="end">{escape(last)}</text>')
    return _svg(parts, title)


class Span(NamedTuple):
    """A part of a lane.

    Attributes:
        begins: from 0 to 1, of the whole time.
        ends: likewise.
        label: what holds the lane meanwhile.
        told: all of it, for a reader who points at it.
        shade: parts of the same shade belong together: a number from 0 on.
    """

    begins: float
    ends: float
    label: str
    told: str
    shade: int = 0


SHADES = ("", " second", " third")
"""Classes of the page's style."""
LANE, CHARACTER = 34, 7
"""The height of a lane, and the width that a character of a label needs."""


def lanes(rows: Sequence[tuple[str, Sequence[Span]]], first: str, last: str, title: str) -> str:
    """One lane above the other, each with what held it when.

    Args:
        rows: name of the lane and its parts, in the order of time.
        first: when the time begins.
        last: when it ends.
        title: for readers who don't see it.
    """
    left, top = 84, 8
    wide, floor = WIDTH - left, top + LANE * len(rows)
    parts = [f'<path class="axis" d="M{left},{top}V{floor}H{WIDTH}"/>']
    for place, (name, spans) in enumerate(rows):
        y = top + LANE * place + 4
        parts.append(f'<text x="{left - 8}" y="{y + 17}" text-anchor="end">{escape(name)}</text>')
        for span in spans:
            x, width = left + span.begins * wide, max(2.0, (span.ends - span.begins) * wide - 1)
            shade = SHADES[span.shade % len(SHADES)]
            parts.append(f'<rect class="bar{shade}" x="{x:.1f}" y="{y}" width="{width:.1f}" height="{LANE - 8}">')
            parts.append(f"<title>{escape(span.told)}</title></rect>")
            if len(span.label) * CHARACTER < width:
                parts.append(f'<text class="on" x="{x + 6:.1f}" y="{y + 17}">{escape(span.label)}</text>')
    parts.append(f'<text x="{left}" y="{floor + 16}">{escape(first)}</text>')
    parts.append(f'<text x="{WIDTH}" y="{floor + 16}" text-anchor="end">{escape(last)}</text>')
    return _svg(parts, title, floor + 24)


def _axis(high: str, low: str) -> str:
    floor = HEIGHT - BOTTOM
    texts = ((high, TOP + 8), (low, floor))
    labels = "".join(f'<text x="{LEFT - 6}" y="{y}" text-anchor="end">{escape(text)}</text>' for text, y in texts)
    return f'<path class="axis" d="M{LEFT},{TOP}V{floor}H{WIDTH}"/>{labels}'


def _svg(parts: Sequence[str], title: str, height: int = HEIGHT) -> str:
    head = f'<svg viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{escape(title)}">'
    return head + "".join(parts) + "</svg>"
