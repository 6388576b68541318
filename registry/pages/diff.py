"""Two policies side by side, as a page for a browser."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from carla_mlflow.contract.card import Card
from carla_mlflow.differences.distribution import dimension_rows
from carla_mlflow.report.histogram import histograms
from carla_mlflow.report.page import page, safe, table
from registry.checks.comparison import Comparison, Difference
from registry.pages.findings import findings_list
from registry.rules.judged import Judged
from registry.rules.side_by_side import side_by_side

LONG = 400
"""The longest value of a card that is shown, characters."""


def diff_page(comparison: Comparison, old: Card, new: Card, found: Sequence[Judged] = ()) -> str:
    """The page's text.

    Args:
        comparison: of the two.
        old: the first one's card.
        new: the second one's.
        found: what gates found of the second beside the first.
    """
    body = [*_summary(comparison), *_gates(found), *_actions(comparison), *_cards(comparison, old, new)]
    return page(f"{comparison.old} → {comparison.new}", body)


def _summary(comparison: Comparison) -> Iterator[str]:
    yield f"<p>The changes require a <strong>{comparison.step}</strong> step of the version.</p><h2>Contract</h2>"
    if comparison.contract:
        yield "<p>What a car's code depends on differs:</p><ul>"
        yield from (f'<li class="bad">{safe(text)}</li>' for text in comparison.contract)
        yield "</ul>"
    else:
        yield '<p class="good">The same: no car\'s code has to change.</p>'


def _gates(found: Sequence[Judged]) -> Iterator[str]:
    if found:
        yield f"<h2>What the gates found</h2>{findings_list(found, 'did not pass')}"


def _actions(comparison: Comparison) -> Iterator[str]:
    yield "<h2>How far actions differ</h2>"
    if not comparison.actions:
        yield "<p>Both can't be asked the same: their observations, or the names of what they answer, differ.</p>"
    for difference in comparison.actions:
        yield f"<h3>On {safe(difference.observations)}</h3>{table(_largest(difference), 'largest and mean difference')}"
        if all(value == 0 for value in difference.largest.values()):
            yield '<p class="good">Each answer is the same.</p>'
            continue
        yield table(dimension_rows(difference.distributions), "how often actions are how far apart")
        yield from histograms(difference.distributions)


def _largest(difference: Difference) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = [("answer", "largest difference", "mean difference")]
    return rows + [(n, f"{difference.largest[n]:.3g}", f"{difference.mean[n]:.3g}") for n in difference.largest]


def _cards(comparison: Comparison, old: Card, new: Card) -> Iterator[str]:
    yield "<h2>Both cards</h2><p>Rows that differ are marked, and begin with ≠.</p>"
    for heading, keys in side_by_side(old, new).items():
        rows = [("", comparison.old, comparison.new)]
        rows += [(f"{'≠ ' * each.differs}{each.place}", _value(each.old), _value(each.new)) for each in keys]
        yield f"<h3>{safe(heading)}</h3>{table(rows, heading, 'wrap', [each.differs for each in keys])}"


def _value(text: str | None) -> str:
    if text is None:
        return "–"
    return text if len(text) <= LONG else f"{text[: LONG - 1]}…"
