"""What a replay found as one HTML file, which asks no other host for anything and is light or dark as its reader is."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from html import escape
from pathlib import Path

import carla_mlflow
from carla_mlflow.escaping import escaped
from serve.replay.compare import Figures
from serve.replay.distribution import DimensionFigures
from serve.replay.result import Result, local
from serve.replay.svg import bars, line
from serve.replay.text import counted_rows, dimension_rows, said_of, span_of, verdict, worst_rows

POLICY = "default-src 'none'; style-src 'unsafe-inline'"
"""The page's Content-Security-Policy: a browser then asks nobody for anything, whatever the recording's texts hold."""
STYLE = """
:root { color-scheme: light dark; --ink: #1b1f24; --soft: #667; --paper: #fff; --line: #d5d9e0; --mark: #1f6feb;
  --bad: #b3261e; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6e8eb; --soft: #9aa4b2; --paper: #14171c; --line: #343a44; --mark: #6ea8fe; --bad: #ff8a80; } }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper); max-width: 60rem;
  margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.15rem; margin-top: 2rem; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; display: block; overflow-x: auto; }
th, td { text-align: left; padding: .25rem .75rem .25rem 0; border-bottom: 1px solid var(--line); white-space: nowrap; }
svg { width: 100%; height: auto; } svg text { fill: var(--soft); font-size: 11px; }
.bar { fill: var(--mark); } .stroke { stroke: var(--mark); stroke-width: 2; fill: none; }
.axis { stroke: var(--line); fill: none; } .bad { color: var(--bad); font-weight: 600; } .soft { color: var(--soft); }
"""


def write_report(path: Path, result: Result) -> None:
    """Writes the report beside its place, and renames it."""
    beside = path.with_name(f".{path.name}.{os.getpid()}.partial")
    beside.write_text(as_html(result), encoding="utf-8")
    os.replace(beside, path)


def as_html(result: Result) -> str:
    """The report as the text of an HTML file."""
    compared = f" and {result.other}" if result.other else ""
    title = f"Replay of {Path(result.folder).name}{compared}"
    body = [f"<h1>{_safe(title)}</h1>", *_summary(result)]
    if result.compared is not None:
        body += _compared(result, result.compared)
    body.append(f'<p class="soft">Written by carla-mlflow {_safe(carla_mlflow.__version__)}.</p>')
    head = f'<meta charset="utf-8"><meta http-equiv="Content-Security-Policy" content="{POLICY}">'
    head += '<meta name="viewport" content="width=device-width, initial-scale=1">'
    head += f"<title>{_safe(title)}</title><style>{STYLE}</style>"
    return f'<!DOCTYPE html>\n<html lang="en"><head>{head}</head><body>\n' + "\n".join(body) + "\n</body></html>\n"


def _summary(result: Result) -> Iterator[str]:
    if not result.rows:
        yield "<p>There are no rows.</p>"
        return
    outcomes = ", ".join(f"{rows:,} {outcome}" for outcome, rows in sorted(result.outcomes.items()))
    lost = f"; the recording lost {result.lost:,} rows" if result.lost else ""
    text = f"{span_of(result.first, result.last)}: {counted_rows(result)}"
    yield f"<p>{_safe(f'{text}; {outcomes}{lost}')}</p><h2>What drove</h2><ul>"
    for span in result.drove:
        yield f'<li class="{"bad" if span.disagrees else ""}">{_safe(said_of(span))}</li>'
    asked = "" if result.asked_journal else '<p class="soft">By the recording alone: no registry was asked.</p>'
    yield f"</ul>{asked}<h2>The same policy again</h2><ul>"
    for found in result.again:
        skipped = "".join(f"; {rows:,} rows not run: {reason}" for reason, rows in found.skipped.items())
        yield f'<li class="{"" if found.holds else "bad"}">{_safe(f"{found.version}: {verdict(found)}{skipped}")}</li>'
    yield "</ul>"


def _compared(result: Result, compared: Figures) -> Iterator[str]:
    rows = max(1, compared.rows)
    yield f"<h2>What {_safe(str(result.other))} would have done</h2>"
    yield f"<p>On {compared.rows:,} rows, {compared.equal / rows:.2%} of which get the same bits.</p>"
    if compared.skipped:
        left_out = "".join(f"<li>{count:,} rows left out: {_safe(why)}</li>" for why, count in compared.skipped.items())
        yield f"<ul>{left_out}</ul>"
    yield _table(dimension_rows(compared))
    if compared.brake_against_throttle is not None:
        opposed = compared.brake_against_throttle
        yield f"<p>Brake against throttle: <strong>{opposed / rows:.3%}</strong> ({opposed:,} rows)</p>"
    for found in compared.dimensions:
        if not found.is_choice:
            title = f"|Δ {_safe(found.name)}|, share of the rows up to the number below, and above the one before"
            yield f"<h3>{title}</h3>{_histogram(found, rows)}"
    yield from _when(result)
    if compared.worst:
        yield f"<h2>The worst moments</h2>{_table(worst_rows(compared))}"


def _when(result: Result) -> Iterator[str]:
    timeline = result.timeline
    if timeline is None:
        return
    ends = local(timeline.start), local(timeline.end)
    for name, values in timeline.largest.items():
        title = f"|Δ {name}| over time, the largest of each part"
        yield f"<h3>{_safe(title)}</h3>{line(values, *ends, title)}"


def _histogram(found: DimensionFigures, rows: int) -> str:
    labels = [f"{bound:g}" for bound, _ in found.histogram]
    return bars(labels, [count / rows for _, count in found.histogram], f"distribution of |Δ {found.name}|")


def _table(rows: Sequence[tuple[str, ...]]) -> str:
    head, *body = rows
    cells = "".join(f"<th>{_safe(cell)}</th>" for cell in head)
    lines = "".join("<tr>" + "".join(f"<td>{_safe(cell)}</td>" for cell in row) + "</tr>" for row in body)
    return f"<table><thead><tr>{cells}</tr></thead><tbody>{lines}</tbody></table>"


def _safe(text: str) -> str:
    """Text of any origin, without markup and without characters that print nothing."""
    return escape(escaped(text))
