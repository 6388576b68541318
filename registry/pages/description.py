"""What MLflow's page of a version says: what it is, its contract, how it drove, what gates found, how to serve it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from msgspec import UnsetType

from carla_mlflow.contract.answer import AnswerColumn, answer_columns
from carla_mlflow.contract.card import Card
from registry.gates.evaluate_command import evaluate_command
from registry.gates.gates import card_decision_ms
from registry.pages.figures import say_figures
from registry.pages.markdown import code, plain, run_link, table, utc, with_links
from registry.pages.signed import MAX_LENGTH, SIGNATURE, signed
from registry.rules.held import Held, held
from registry.rules.journal import Entry, Move
from registry.rules.judged import Judged
from registry.rules.lifecycle import ARCHIVED, PRODUCTION, STAGING
from registry.rules.replay import holders
from registry.store.run_figures import RunFigures

SHORTENED = ((24, 24, 400), (12, 12, 200), (6, 6, 120), (3, 3, 60), (0, 0, 40))
"""How many fields and findings are shown, and how much of each text: the first with which all of it fits."""

MAX_MOVES = 3
"""How many of a version's times in production or staging are shown: the last ones."""

TOLD = ("evidence", "driving", "shadow")
"""Gates whose findings are told where they passed, too: with figures that people want to read."""


@dataclass(frozen=True)
class Described:
    """What is known of a version.

    Attributes:
        name: the policy's.
        card: the version's.
        entries: the journal's chain.
        drove: its newest evaluation; None where it has none.
        refused: what gates found just now when they refused it, and the stage; None when they did not.
    """

    name: str
    card: Card
    entries: Sequence[Entry] = field(default_factory=tuple)
    drove: RunFigures | None = None
    refused: tuple[str, Sequence[Judged]] | None = None

    @property
    def version(self) -> str:
        return self.card.version


def description(what: Described) -> str:
    """The description in Markdown, signed; no longer than MLflow's database allows."""
    for fields, findings, letters in SHORTENED:
        parts = [*_about(what, letters), _contract(what.card, fields), _drove(what)]
        parts += [*_judged(what, findings, letters), *_moves(what, letters), _serving(what)]
        text = "\n\n".join(part for part in parts if part)
        if len(text) <= MAX_LENGTH - SIGNATURE:
            break
    return signed(text[: MAX_LENGTH - SIGNATURE])


def _about(what: Described, letters: int) -> Iterator[str]:
    card = what.card
    if card.description.strip():
        yield plain(_cut(card.description, letters))
    facts = [f"**{plain(what.name)} {card.version}**", f"answers {card.action.rate_hz:g} times a second"]
    took = card_decision_ms(card)
    facts += [f"p99 of a decision {took:.3g} ms where it was exported"] if took is not None else []
    facts += [f"{card.backend}, {card.action.head.replace('_', ' ')}", *(["with a memory"] if card.states else [])]
    yield " · ".join(facts)


def _contract(card: Card, most: int) -> str:
    rows = [("sees", "as", "between")]
    for name, spec in list(card.observation.items())[:most]:
        shape = " × ".join(str(size) for size in spec.shape)
        unit = "" if spec.unit in ("", "1") else f" {plain(spec.unit)}"
        rows.append((code(name), f"{spec.dtype}{f' × {shape}' if shape else ''}", _between(spec.low, spec.high) + unit))
    answers = answer_columns(card.action)
    rows += [(f"**answers** {code(column.name)}", "", _answered(column)) for column in answers[:most]]
    left = max(0, len(card.observation) - most) + max(0, len(answers) - most)
    return table(rows) + (f"\n\nand {left} more" if left else "")


def _answered(column: AnswerColumn) -> str:
    if column.choices:
        return plain(", ".join(column.labels[:8])) if column.labels else f"one of {column.choices}"
    return _between(column.low, column.high)


def _between(low: Any, high: Any) -> str:
    if isinstance(low, list) or isinstance(high, list):
        return "bounds by element"
    texts = ["no bound" if bound is None else f"{bound:g}" for bound in (low, high)]
    return "any" if low is None and high is None else " to ".join(texts)


def _drove(what: Described) -> str:
    run = what.drove
    if run is None:
        command = evaluate_command(f"{what.name}@{what.version}", what.card)
        return f"<br>**Drove**: no evaluation yet. {code(command)}"
    where = f" in {plain(_cut(run.parameters['env'], 60))}" if run.parameters.get("env") else ""
    return f"<br>**Drove**{where}, {run_link(run.run_id, run.experiment_id)}: {say_figures(run.of('policy'))}"


def _judged(what: Described, most: int, letters: int) -> Iterator[str]:
    """What the gates found last."""
    if what.refused is not None:
        to, findings = what.refused
        title, word = f"**Gates** refused it for {plain(to)}", "refused"
    else:
        move = _last_judged(what)
        if move is None:
            return
        findings, word = _findings(move), "overruled"
        title = f"**Gates**, {utc(move.when)}, for {plain(move.to)}"
    failed = [each for each in findings if not each.passed]
    passed = [each for each in findings if each.passed]
    names = ", ".join(dict.fromkeys(plain(each.gate) for each in passed if not failed or each.gate not in TOLD))
    lines = [f"- **{word}** {plain(each.gate)}: {with_links(_cut(each.text, letters))}" for each in failed]
    lines += [f"- {plain(each.gate)}: {with_links(_cut(each.text, letters))}" for each in passed if each.gate in TOLD]
    told = f"; it passed {names or 'none'}" if failed else f": all passed ({names})"
    yield "\n".join([f"{title}{told}", "", *lines[:most]])


def _findings(move: Move) -> Sequence[Judged]:
    return () if isinstance(move.findings, UnsetType) else move.findings


def _last_judged(what: Described) -> Move | None:
    moves = (entry.link.move for entry in reversed(what.entries) if entry.link)
    return next((move for move in moves if move.version == what.version and _findings(move)), None)


def _moves(what: Described, letters: int) -> Iterator[str]:
    """When it held production or staging, and why; that it is archived."""
    times = [each for each in held(what.entries) if each.version == what.version]
    lines = [_held(each, letters) for each in times[-MAX_MOVES:]]
    if holders(what.entries).stage(what.version) == ARCHIVED:
        lines.append("archived: no range means it any more")
    if lines:
        title = "**Moves**" if len(times) <= MAX_MOVES else f"**Moves**, the last {MAX_MOVES}"
        yield "\n".join([title, "", *(f"- {line}" for line in lines)])


def _held(each: Held, letters: int) -> str:
    move, until = each.begins, "" if each.ends is None else f" until {utc(each.ends)}"
    how = "moved in MLflow, not judged by gates," if move.kind == "seen" else "by"
    why = f": “{plain(_cut(move.why, letters))}”" if move.why else ""
    return f"{each.alias} from {utc(move.when)}{until}, {how} {plain(_cut(move.who, 60))}{why}"


def _serving(what: Described) -> str:
    now = holders(what.entries)
    if now.stage(what.version) == ARCHIVED:
        return ""
    alias = next((each for each in (PRODUCTION, STAGING) if now.aliases.get(each) == what.version), what.version)
    return f"**Serve it**: {code(f'carla-serve --model {what.name}@{alias}')}"


def _cut(text: str, letters: int) -> str:
    return text if len(text) <= letters else f"{text[: letters - 1]}…"
