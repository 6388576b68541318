"""The rules for what a card's policy answers: the names of raw actions, the labels of choices, and the fallback."""

from __future__ import annotations

from collections.abc import Iterator

from msgspec import UNSET

from .action_card import ActionCard
from .answer import AnswerColumn, answer_columns
from .array_bounds import NAME
from .control_kinds import CHOICE, CONTROL_NAMES, INDEX, NAMED
from .heads import CHOOSING
from .state_token import STATE

RESERVED = ("raw", STATE, "latency", INDEX)
"""Names that answers, or the last minute in /metadata, have for something else."""
MAX_RAW, MAX_CHOICES, MAX_LABEL = 64, 1024, 64


def raw_name_problems(action: ActionCard) -> Iterator[str]:
    """What is wrong with the raw dimensions of `control: named`, whose names and values are answered, in words."""
    for name in action.raw:
        if not NAME.fullmatch(name) or name in RESERVED:
            reserved = ", ".join(RESERVED)
            yield f"action.raw.{name}: expected an identifier of at most 64 characters, none of {reserved}"
    if not 1 <= len(action.raw) <= MAX_RAW:
        yield f"action.raw: expected 1 to {MAX_RAW} raw dimensions, got {len(action.raw)}"
    if set(action.raw) == set(CONTROL_NAMES):
        yield f"action.control: named: {', '.join(CONTROL_NAMES)} need control: throttle_brake_steer"
    if action.head == "categorical" and set(action.raw) != {CHOICE}:
        yield f"action.raw: a categorical head needs exactly {CHOICE}"
    if CHOICE in action.raw and (len(action.raw) > 1 or action.head not in (*CHOOSING, "deterministic")):
        yield f"action.raw.{CHOICE}: the name is for the only dimension of a policy that chooses one of several"
    chooses = action.head in CHOOSING or CHOICE in action.raw
    for name, (low, high) in action.raw.items() if chooses else ():
        most = 1 if action.head == "bernoulli" else MAX_CHOICES - 1
        if low != 0 or not 1 <= high <= most or high != int(high):
            wanted = "[0, 1]" if most == 1 else f"[0, K - 1] for K choices, from 2 to {MAX_CHOICES}"
            yield f"action.raw.{name}: expected {wanted}"


def answer_problems(action: ActionCard) -> Iterator[str]:
    """What is wrong with the labels of an otherwise valid action section, or with its fallback, in words."""
    problems = list(_label_problems(action))
    yield from problems
    if problems:
        return
    columns = answer_columns(action)
    table = [name for column in columns for name in column.table_names]
    if len(set(table)) != len(table):
        yield "action.raw: the index of a choice with labels has the name of another dimension"
    if set(action.fallback) != {column.name for column in columns}:
        yield f"action.fallback: expected exactly {', '.join(column.name for column in columns)}"
        return
    for column in columns:
        yield from _fallback_problems(column, action.fallback[column.name])


def _label_problems(action: ActionCard) -> Iterator[str]:
    if action.choices is UNSET:
        return
    if action.control != NAMED or not action.choice_counts:
        yield "action.choices: only a policy that chooses, with control: named, has labels of its choices"
        return
    if isinstance(action.choices, dict) == (CHOICE in action.raw):
        yield f"action.choices: expected a list for the dimension {CHOICE}, or lists by the names of raw dimensions"
        return
    counts = dict(zip(action.raw, action.choice_counts, strict=True))
    for name, labels in action.choices.items() if isinstance(action.choices, dict) else [(CHOICE, action.choices)]:
        if name not in counts:
            yield f"action.choices.{name}: there is no such raw dimension"
        elif len(labels) != counts[name] or len(set(labels)) != len(labels):
            yield f"action.choices: expected {counts[name]} different labels for {name}, in the order of the choices"
        elif not all(0 < len(label) <= MAX_LABEL and label.isprintable() for label in labels):
            yield f"action.choices: expected labels of 1 to {MAX_LABEL} printable characters for {name}"


def _fallback_problems(column: AnswerColumn, value: float | str) -> Iterator[str]:
    where = f"action.fallback.{column.name}"
    if isinstance(value, str):
        if value not in column.labels:
            known = ", ".join(column.labels) or "an index: the card has no labels"
            yield f"{where}: {value!r}: expected one of {known}"
    elif (text := f"{value:g}") in column.labels and column.labels.index(text) != value:
        yield (
            f"{where}: {text}: the index of one choice and the label of another; write the label of the first, or the "
            f"label '{text}' in quotes"
        )
    elif not column.low <= value <= column.high:
        yield f"{where}: {value:g}: must lie in [{column.low:g}, {column.high:g}]"
    elif column.choices and value != int(value):
        yield f"{where}: {value:g}: expected the index of a choice"
