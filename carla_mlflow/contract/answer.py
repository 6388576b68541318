"""What a policy answers: the columns of its actions, and their values with labels, in JSON, tables and metrics.

A continuous value is answered as a number, a choice as its index, or as its label and its index where the card has
labels: `{"choice": "FASTER", "index": 3}`, and with several choices `{"gear": {"choice": "first", "index": 0}}`. In a
table, which has no nested values, the label has the column `gear`, and the index `gear_index`.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from msgspec import UNSET
from numpy.typing import NDArray

from .action_card import ActionCard
from .control_kinds import ANSWERED, CHOICE, CONTROL_HIGH, CONTROL_LOW, INDEX

Array = NDArray[np.float32]


class AnswerColumn(NamedTuple):
    """One of the values that a policy answers.

    Attributes:
        name: as `ActionCard.control_names` has it.
        low: smallest value.
        high: largest value.
        choices: number of choices, of which the value is an index; 0 for a continuous value.
        labels: of the choices; empty when the card has none.
    """

    name: str
    low: float
    high: float
    choices: int = 0
    labels: tuple[str, ...] = ()

    @property
    def is_unit(self) -> bool:
        """Whether it is a continuous value inside [-1, 1]."""
        return not self.choices and self.low >= -1.0 and self.high <= 1.0

    @property
    def index_name(self) -> str:
        """The name in a table of the index of a choice that has a label."""
        return INDEX if self.name == CHOICE else f"{self.name}_{INDEX}"

    @property
    def table_names(self) -> tuple[str, ...]:
        """The names of its columns in a table."""
        return (self.name, self.index_name) if self.labels else (self.name,)


def answer_columns(action: ActionCard) -> tuple[AnswerColumn, ...]:
    """The columns of a policy's answers, in the order of `control_names`."""
    names = action.control_names
    if action.is_pedals:
        rows = zip(names, CONTROL_LOW.tolist(), CONTROL_HIGH.tolist(), strict=True)
        return tuple(AnswerColumn(*row) for row in rows)
    if action.control in ANSWERED:
        return tuple(AnswerColumn(name, -1.0, 1.0) for name in names)
    counts = action.choice_counts or (0,) * len(names)
    low, high = (bound.tolist() for bound in action.bounds)
    labels = _labels(action)
    rows_named = zip(names, low, high, counts, strict=True)
    return tuple(AnswerColumn(*row, labels.get(row[0], ())) for row in rows_named)


def _labels(action: ActionCard) -> dict[str, tuple[str, ...]]:
    if action.choices is UNSET:
        return {}
    stated = action.choices if isinstance(action.choices, dict) else {CHOICE: action.choices}
    return {name: tuple(labels) for name, labels in stated.items()}


def answer_bounds(columns: tuple[AnswerColumn, ...]) -> tuple[Array, Array]:
    """The smallest and the largest value of each column, each float32 (C,)."""
    low, high = ([getattr(column, side) for column in columns] for side in ("low", "high"))
    return np.array(low, dtype=np.float32), np.array(high, dtype=np.float32)


def _named(column: AnswerColumn, number: float) -> list[tuple[str, Any]]:
    if not column.choices:
        return [(column.name, number)]
    index = int(number)
    if not column.labels:
        return [(column.name, index)]
    if column.name == CHOICE:
        return [(CHOICE, column.labels[index]), (INDEX, index)]
    return [(column.name, {CHOICE: column.labels[index], INDEX: index})]


def answer_table(columns: tuple[AnswerColumn, ...], control: Array) -> dict[str, NDArray[Any]]:
    """Actions (B, C) as the columns of a table: float32, int64 for the index of a choice, str for its label."""
    table: dict[str, NDArray[Any]] = {}
    for place, column in enumerate(columns):
        values = control[:, place]
        if not column.choices:
            table[column.name] = values
            continue
        index = values.astype(np.int64)
        if column.labels:
            table[column.name] = np.array(column.labels, dtype=object)[index]
        table[column.table_names[-1]] = index
    return table


def fallback_row(action: ActionCard) -> Array:
    """The card's fallback as one row of actions, float32 (C,)."""
    return np.array(_fallback_numbers(action), dtype=np.float32)


def fallback_answer(action: ActionCard) -> dict[str, Any]:
    """The card's fallback as /predict answers it."""
    pairs = zip(answer_columns(action), _fallback_numbers(action), strict=True)
    return {key: value for column, number in pairs for key, value in _named(column, number)}


def _fallback_numbers(action: ActionCard) -> list[float]:
    values = [(column, action.fallback[column.name]) for column in answer_columns(action)]
    return [float(column.labels.index(value)) if isinstance(value, str) else value for column, value in values]
