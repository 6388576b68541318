"""How far actions differ, as bars and as the table behind them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ..differences.distribution import DimensionFigures
from .page import plot, safe
from .svg import bars


def histograms(dimensions: Sequence[DimensionFigures]) -> Iterator[str]:
    """One for each dimension that is no choice."""
    for found in dimensions:
        if found.is_choice:
            continue
        rows = max(1, sum(count for _, count in found.histogram))
        labels = [f"{bound:g}" for bound, _ in found.histogram]
        shares = [count / rows for _, count in found.histogram]
        title = f"|Δ {found.name}|, share of the rows up to the number below, and above the one before"
        counts = [(label, f"{share:.2%}") for label, share in zip(labels, shares, strict=True)]
        svg = bars(labels, shares, f"distribution of |Δ {found.name}|")
        yield f"<h3>{safe(title)}</h3>{plot(svg, f'|Δ {found.name}|', [('up to', 'of the rows'), *counts])}"
