"""What a replay found, as a page for a browser."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from carla_mlflow.differences.distribution import dimension_rows
from carla_mlflow.report.histogram import histograms
from carla_mlflow.report.page import page, plot, safe, table, write_page
from carla_mlflow.report.svg import line
from serve.replay.compare import Figures
from serve.replay.result import Result, local
from serve.replay.text import counted_rows, said_of, span_of, verdict, worst_rows


def write_report(path: Path, result: Result) -> None:
    """Writes the report beside its place, and renames it."""
    write_page(path, as_html(result))


def as_html(result: Result) -> str:
    """The report as the text of an HTML file."""
    compared = f" and {result.other}" if result.other else ""
    body = [*_summary(result)]
    if result.compared is not None:
        body += _compared(result, result.compared)
    return page(f"Replay of {Path(result.folder).name}{compared}", body)


def _summary(result: Result) -> Iterator[str]:
    if not result.rows:
        yield "<p>There are no rows.</p>"
        return
    outcomes = ", ".join(f"{rows:,} {outcome}" for outcome, rows in sorted(result.outcomes.items()))
    lost = f"; the recording lost {result.lost:,} rows" if result.lost else ""
    text = f"{span_of(result.first, result.last)}: {counted_rows(result)}"
    yield f"<p>{safe(f'{text}; {outcomes}{lost}')}</p><h2>What drove</h2><ul>"
    for span in result.drove:
        yield f'<li class="{"bad" if span.disagrees else ""}">{safe(said_of(span))}</li>'
    asked = "" if result.asked_journal else '<p class="soft">By the recording alone: no registry was asked.</p>'
    yield f"</ul>{asked}<h2>The same policy again</h2><ul>"
    for found in result.again:
        skipped = "".join(f"; {rows:,} rows not run: {reason}" for reason, rows in found.skipped.items())
        yield f'<li class="{"" if found.holds else "bad"}">{safe(f"{found.version}: {verdict(found)}{skipped}")}</li>'
    yield "</ul>"


def _compared(result: Result, compared: Figures) -> Iterator[str]:
    rows = max(1, compared.rows)
    yield f"<h2>What {safe(str(result.other))} would have done</h2>"
    yield f"<p>On {compared.rows:,} rows, {compared.equal / rows:.2%} of which get the same bits.</p>"
    if compared.skipped:
        left_out = "".join(f"<li>{count:,} rows left out: {safe(why)}</li>" for why, count in compared.skipped.items())
        yield f"<ul>{left_out}</ul>"
    yield table(dimension_rows(compared.dimensions), "how far actions differ")
    if compared.brake_against_throttle is not None:
        opposed = compared.brake_against_throttle
        yield f"<p>Brake against throttle: <strong>{opposed / rows:.3%}</strong> ({opposed:,} rows)</p>"
    yield from histograms(compared.dimensions)
    yield from _when(result)
    if compared.worst:
        yield f"<h2>The worst moments</h2>{table(worst_rows(compared), 'the worst moments')}"


def _when(result: Result) -> Iterator[str]:
    timeline = result.timeline
    if timeline is None:
        return
    ends = local(timeline.start), local(timeline.end)
    for name, values in timeline.largest.items():
        title = f"|Δ {name}| over time, the largest of each part"
        yield f"<h3>{safe(title)}</h3>{plot(line(values, *ends, title), title)}"
