"""One move of a history, in HTML: who, when, why, and on what it rested."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime

from msgspec import UnsetType

from carla_mlflow.look import ago
from carla_mlflow.report.page import link, safe, table
from registry.pages.figures import run_rows
from registry.pages.findings import findings_list
from registry.rules.baking import say_bake
from registry.rules.canary import share_text
from registry.rules.durations import say_duration
from registry.rules.journal import ALLOWED, MARGINS, OVERRULED, WATCHED, Entry, Move, run_links
from registry.store.run_figures import RunFigures, run_id_of

VERBS = {
    "register": "registered",
    "seen": "moved in MLflow's UI",
    "set": "settings of the gates",
    "baked": "baked without an alarm",
}


def when_element(when: float) -> str:
    """A time for people and machines."""
    local = datetime.fromtimestamp(when).astimezone()
    return f'<time datetime="{local.isoformat(timespec="seconds")}">{local:%Y-%m-%d %H:%M:%S %Z}</time>'


def move_article(entry: Entry, runs: Mapping[str, RunFigures], now: float) -> str:
    """An entry of the journal.

    Args:
        entry: it.
        runs: run id → its figures, of the runs that are still there.
        now: from which on times are counted back, seconds since 1970.
    """
    if entry.link is None:
        text = "can't be read: it was edited; see history --check"
        return f'<article><h3>Entry {entry.number}</h3><p class="bad">{text}</p></article>'
    move = entry.link.move
    by = f"{when_element(move.when)}, {ago(move.when, now)}, by <strong>{safe(move.who)}</strong>"
    parts = [f"<h3>{safe(_title(move))}</h3><p>{by}</p>"]
    if move.why:
        parts.append(f"<blockquote>{safe(move.why)}</blockquote>")
    if not isinstance(move.bake, UnsetType):
        parts.append(f"<p>{safe(say_bake(move.bake))}</p>")
    parts += [*_evidence(move, runs), *_findings(move)]
    parts.append(f'<p class="soft">entry {entry.number}, <code>{entry.hash[:19]}…</code></p>')
    return f"<article>{''.join(parts)}</article>"


def _title(move: Move) -> str:
    if move.kind == "set":
        changed = ", ".join(f"{key} = {value or 'default'}" for key, value in sorted((move.settings or {}).items()))
        return f"{VERBS['set']}: {changed}"
    if move.kind in ("register", "baked"):
        return f"{move.version} {VERBS[move.kind]}"
    share = "" if move.canary_share is None else f" with {share_text(move.canary_share)} % of the episodes"
    was = f" (was {move.displaced})" if move.displaced and move.displaced != move.version else ""
    verb = VERBS.get(move.kind, move.kind)
    bakes = "" if isinstance(move.bake, UnsetType) else f", bakes for {say_duration(move.bake.duration_s)}"
    return f"{move.version} → {move.to}{share}{was}: {verb}{bakes}"


def _findings(move: Move) -> Iterator[str]:
    """What the gates found; of entries of older releases, only what was let pass."""
    found = () if isinstance(move.findings, UnsetType) else move.findings
    notes = [text for text in move.evidence if text.startswith((ALLOWED, MARGINS, WATCHED))]
    if not found:
        notes = [text for text in move.evidence if text.startswith(OVERRULED)] + notes
    if not (found or notes):
        return
    overruled = sum(not each.passed for each in found)
    told = "all passed" if found and not overruled else f"{overruled} overruled" if found else "what the journal keeps"
    is_open = "" if found and not overruled else " open"
    inside = findings_list(found, "overruled", notes)
    yield f"<details{is_open}><summary>Gates: {told}</summary>{inside}</details>"


def _evidence(move: Move, runs: Mapping[str, RunFigures]) -> Iterator[str]:
    links = run_links(move)
    if not links or move.kind in ("set", "seen"):
        yield from ([f"<ul>{''.join(f'<li>{safe(text)}</li>' for text in links)}</ul>"] if links else [])
        return
    known = [run for each in links if (run := runs.get(run_id_of(each) or "")) is not None]
    if known:
        yield table(run_rows(known), "figures of the evidence")
    yield f"<p>Evidence: {', '.join(_linked(each, runs) for each in links)}</p>"


def _linked(text: str, runs: Mapping[str, RunFigures]) -> str:
    run_id = run_id_of(text)
    if run_id is None:
        return safe(text)
    gone = "" if run_id in runs else " (no longer there, or unread)"
    reported = " (self-reported)" if text.endswith("(self-reported)") else ""
    return link(f"run {run_id[:8]}", text.partition(" ")[0]) + reported + gone
