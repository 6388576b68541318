"""A policy's actions as JSON objects, by templates that are made when it is loaded."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np
import orjson
from numpy.typing import NDArray

from carla_mlflow.contract.answer import AnswerColumn
from carla_mlflow.contract.control_kinds import CHOICE, INDEX
from carla_mlflow.contract.state_token import to_text


class ActionRows:
    """Encodes the actions of one policy as JSON objects: numbers are the shortest that round-trip in their dtype.

    Attributes:
        width: parts of a row, each of which fills one place of the template.
        remembers: whether each row has its state token, too.
    """

    def __init__(
        self,
        columns: tuple[AnswerColumn, ...],
        dtype: type[np.floating[Any]] = np.float32,
        as_table: bool = False,
        remembers: bool = False,
    ) -> None:
        """Makes the templates.

        Args:
            columns: of the policy's answers.
            dtype: of the numbers.
            as_table: whether the label and the index of a choice are beside each other, as columns, rather than an
                object of their own.
            remembers: whether each row has its state token, too.
        """
        self.remembers, self._values = remembers, len(columns)
        self.width = len(columns) + remembers
        self._dtype = np.dtype(dtype)
        places = [_place(column) for column in columns] + [b'"state":"%b"'] * remembers
        self._row = b"{%b}" % b",".join(places)
        self._choices = [(place, _choices(column, as_table)) for place, column in enumerate(columns) if column.choices]
        self.template = functools.lru_cache(maxsize=64)(self._template)

    def _template(self, rows: int) -> bytes:
        """Objects separated by commas, with a place `%b` for each part of each row."""
        return b",".join([self._row] * rows)

    def parts(self, control: NDArray[np.float32], tokens: Sequence[bytes] = ()) -> list[bytes]:
        """The parts of all rows, one after the other: of actions (B, C), and of their state tokens."""
        flat = (control if control.dtype == self._dtype else control.astype(self._dtype)).ravel()
        parts: list[bytes] = orjson.dumps(flat, option=orjson.OPT_SERIALIZE_NUMPY)[1:-1].split(b",")
        for place, choices in self._choices:
            parts[place :: self._values] = [choices[int(index)] for index in control[:, place].tolist()]
        return self._with_tokens(parts, tokens) if self.remembers else parts

    def _with_tokens(self, parts: list[bytes], tokens: Sequence[bytes]) -> list[bytes]:
        found = [b""] * (self.width * len(tokens))
        for place in range(self._values):
            found[place :: self.width] = parts[place :: self._values]
        found[self._values :: self.width] = [to_text(token).encode() for token in tokens]
        return found


def _place(column: AnswerColumn) -> bytes:
    return b"%b" if column.choices else msgspec.json.encode(column.name) + b":%b"


def _choices(column: AnswerColumn, as_table: bool) -> list[bytes]:
    """For each choice what the row has of it."""
    found = []
    for index in range(column.choices):
        if not column.labels:
            part: dict[str, Any] = {column.name: index}
        elif as_table or column.name == CHOICE:
            part = {column.name: column.labels[index], column.index_name: index}
        else:
            part = {column.name: {CHOICE: column.labels[index], INDEX: index}}
        found.append(msgspec.json.encode(part)[1:-1])
    return found
