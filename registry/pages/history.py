"""A policy's history as a page for a browser: who moved what when, and the evidence beside it."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from carla_mlflow.look import ago
from carla_mlflow.report.page import page, plot, safe, table
from carla_mlflow.report.svg import Span, lanes
from registry.pages.moves import move_article, when_element
from registry.rules.canary import say_shares
from registry.rules.held import Held, held
from registry.rules.journal import Entry
from registry.rules.lifecycle import CANARY, PRODUCTION, STAGING
from registry.rules.replay import holders
from registry.store.run_figures import RunFigures

LANES = (PRODUCTION, CANARY, STAGING)


@dataclass(frozen=True)
class History:
    """What the page tells.

    Attributes:
        name: the policy's.
        entries: the journal's chain.
        problems: what is wrong with it, in words.
        bakes: those that have not ended, in words.
        runs: run id → its figures, of the runs in the moves' evidence that are still there.
        now: seconds since 1970.
        unread: why the runs could not be read; empty where they could.
    """

    name: str
    entries: Sequence[Entry]
    problems: Sequence[str] = ()
    bakes: Sequence[str] = ()
    runs: Mapping[str, RunFigures] = field(default_factory=dict)
    now: float = field(default_factory=time.time)
    unread: str = ""


def history_page(history: History) -> str:
    """The page's text."""
    times = held(history.entries)
    body = [*_chain(history), *_present(history, times), *_lanes(history, times), *_moves(history)]
    return page(f"History of {history.name}", body)


def _chain(history: History) -> Iterator[str]:
    entries = history.entries
    count = f"{len(entries):,} entr{'y' if len(entries) == 1 else 'ies'}"
    written = f"As of {when_element(history.now)}, from which on times are counted back."
    yield f"<p>{written}</p>"
    if history.problems:
        yield f'<p class="bad">The journal is not intact ({count}):</p><ul>'
        yield from (f'<li class="bad">{safe(text)}</li>' for text in history.problems)
        yield "</ul>"
    else:
        yield f'<p><span class="good">The journal is intact</span>: {count}, each with the hash of the one before.</p>'
    head = entries[-1].hash if entries else "none"
    yield f'<p class="soft">head <code>{safe(head)}</code>: noted elsewhere, <code>history --check --head</code> shows'
    yield "whether entries were cut off later.</p>"
    if history.unread:
        yield f'<p class="bad">The runs of the evidence can\'t be read: {safe(history.unread)}</p>'


def _present(history: History, times: Sequence[Held]) -> Iterator[str]:
    now = holders(history.entries)
    rows = [("stage", "version", "since", "by")]
    for alias in LANES:
        version = now.aliases.get(alias)
        if version is None:
            if alias != CANARY:
                rows.append((alias, "none", "", ""))
            continue
        begins = next(each.begins for each in reversed(times) if each.alias == alias)
        stage = next(iter(say_shares([alias], now.share)))
        rows.append((stage, version, f"{ago(begins.when, history.now)}, {_local(begins.when)}", begins.who))
    yield f"<h2>Now</h2>{table(rows, 'which version holds which stage')}"
    archived = ", ".join(sorted(now.archived))
    if archived:
        yield f'<p class="soft">Archived: {safe(archived)}</p>'
    yield from (f'<p class="doubtful">{safe(text)}</p>' for text in history.bakes)


def _lanes(history: History, times: Sequence[Held]) -> Iterator[str]:
    if not times:
        return
    first, last = times[0].begins.when, max(history.now, times[-1].begins.when)
    whole = max(last - first, 1e-9)
    rows, told = [], [("stage", "version", "from", "until", "by")]
    shades = {version: number for number, version in enumerate(dict.fromkeys(each.version for each in times))}
    for alias in (alias for alias in LANES if any(each.alias == alias for each in times)):
        spans = []
        for each in (each for each in times if each.alias == alias):
            ends = last if each.ends is None else each.ends
            until = "now" if each.ends is None else _local(each.ends)
            told.append((alias, each.version, _local(each.begins.when), until, each.begins.who))
            text = f"{alias}: {each.version}, {_local(each.begins.when)} to {until}, by {each.begins.who}"
            place = (max(0.0, each.begins.when - first) / whole, max(0.0, ends - first) / whole)
            spans.append(Span(*place, each.version, text, shades[each.version]))
        rows.append((alias, spans))
    title = "which version held which stage when"
    yield f"<h2>What drove when</h2>{plot(lanes(rows, _local(first), _local(last), title), title, told)}"


def _moves(history: History) -> Iterator[str]:
    yield "<h2>Moves, the newest first</h2>"
    if not history.entries:
        yield "<p>None yet.</p>"
    yield from (move_article(entry, history.runs, history.now) for entry in reversed(history.entries))


def _local(when: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(when))
