"""What a replay found, as lines for a terminal."""

from __future__ import annotations

from collections.abc import Iterator

from carla_mlflow.differences.distribution import dimension_rows
from carla_mlflow.look import table
from serve.replay.compare import Figures
from serve.replay.drove import Span
from serve.replay.moments import Moment
from serve.replay.result import Result, local
from serve.replay.verify import Verification

SHOWN = 5
"""How many of the rows that differ from the record are printed."""


def as_text(result: Result) -> str:
    """The result as lines."""
    lines = [*_recorded(result), *_drove(result)]
    for found in result.again:
        lines += _again(found)
    if result.compared is not None:
        lines += ["", *_compared(result, result.compared)]
    if result.exports:
        lines += ["", *result.exports]
    return "\n".join(lines)


def _recorded(result: Result) -> Iterator[str]:
    if not result.rows:
        yield "recorded  no rows"
        return
    outcomes = ", ".join(f"{rows:,} {outcome}" for outcome, rows in sorted(result.outcomes.items()))
    lost = f"; the recording lost {result.lost:,} rows" if result.lost else ""
    yield f"recorded  {span_of(result.first, result.last)}, {counted_rows(result)}"
    yield f"          {outcomes}{lost}"


def counted_rows(result: Result) -> str:
    """How many rows and episodes there are, in words."""
    numbers = ((result.rows, "row"), (result.episodes, "episode"))
    return ", ".join(f"{number:,} {word}{'s' * (number != 1)}" for number, word in numbers)


def span_of(first: int, last: int) -> str:
    """A span of time in words."""
    begins, ends = local(first), local(last)
    return begins if begins == ends else f"{begins} to {ends[11:] if ends[:10] == begins[:10] else ends}"


def _drove(result: Result) -> Iterator[str]:
    for number, span in enumerate(result.drove):
        yield f"{'drove' if number == 0 else '':10}{said_of(span)}"
    if result.drove and not result.asked_journal:
        yield "          by the recording alone: no registry was asked"


def said_of(span: Span) -> str:
    """One span of what drove, in words."""
    disagrees = "THE JOURNAL DISAGREES: " if span.disagrees else ""
    journal = f"; {disagrees}{span.journal}" if span.journal else ""
    return f"{span.version} ({span.digest[:19]}…) {span_of(span.first, span.last)}, {span.rows:,} rows{journal}"


def _again(found: Verification) -> Iterator[str]:
    yield f"again     {found.version} ({found.digest[:19]}…): {verdict(found)}"
    for reason, rows in found.skipped.items():
        yield f"          {rows:,} rows not run: {reason}"
    for moment in found.first[:SHOWN]:
        yield f"          {_where(moment)}: recorded {_numbers(moment.recorded)}, now {_numbers(moment.other)}"


def verdict(found: Verification) -> str:
    """Whether the same was answered again, in words."""
    parts = []
    if found.rows:
        parts.append(f"{found.equal:,} of {found.rows:,} rows have the same bits")
    if found.within:
        parts.append(f"{found.within:,} lie within the card's tolerance (at most {found.largest:.3g} apart)")
    if found.differing:
        parts.append(f"{found.differing:,} DIFFER, by up to {found.largest:.6g}")
    if found.states_differing:
        parts.append(f"{found.states_differing:,} of {found.states:,} recorded states are NOT those of the step before")
    if found.fallbacks:
        same = found.fallbacks - found.fallbacks_differing
        parts.append(f"{same:,} of {found.fallbacks:,} fallbacks are the card's")
    if found.why_not_bits:
        parts.append(f"the bits need not be the same here ({found.why_not_bits})")
    return "; ".join(parts) or "no row could be run"


def _compared(result: Result, compared: Figures) -> Iterator[str]:
    rows = max(1, compared.rows)
    yield f"{result.other} on {compared.rows:,} rows; {compared.equal / rows:.2%} of them get the same bits"
    for reason, count in compared.skipped.items():
        yield f"  {count:,} rows left out: {reason}"
    yield ""
    yield table(dimension_rows(compared.dimensions))
    if compared.brake_against_throttle is not None:
        opposed = compared.brake_against_throttle
        yield f"brake against throttle: {opposed / rows:.3%} ({opposed:,} rows)"
    if compared.worst:
        yield ""
        yield table(worst_rows(compared))


def worst_rows(compared: Figures) -> list[tuple[str, ...]]:
    """The worst moments as a table, headings first."""
    rows = [("worst moments", "episode", "frame", *(f"{name}: was → other" for name in compared.names))]
    for moment in compared.worst:
        frame = str(moment.frame) if moment.frame >= 0 else ""
        actions = (f"{was:.3g} → {now:.3g}" for was, now in zip(moment.recorded, moment.other, strict=True))
        rows.append((local(moment.timestamp, 3), moment.episode, frame, *actions))
    return rows


def _where(moment: Moment) -> str:
    episode = f", episode {moment.episode}, frame {moment.frame}" if moment.episode else ""
    return f"{local(moment.timestamp, 3)}{episode}, request {moment.request}[{moment.row}]"


def _numbers(values: tuple[float, ...]) -> str:
    return ", ".join(f"{value:.9g}" for value in values)
