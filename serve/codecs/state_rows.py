"""The state tokens among the rows of a request to a policy with memory."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from msgspec import UNSET

from carla_mlflow.contract.state_token import STATE, from_bytes, from_text, state_field
from carla_mlflow.errors import SpecError

Tokens = list[bytes | None]


def tokens_of(values: Sequence[Any], as_numbers: bool = False) -> Tokens:
    """The token of each row; None for one that begins an episode.

    Args:
        values: what each row has under `state`: base64 text; nothing, null or an empty text where an episode begins.
        as_numbers: whether a token may also be a list of its bytes, all 0 where an episode begins.

    Raises:
        SpecError: a value is anything else; names the row.
    """
    return [
        None if value is UNSET or value is None else _token(value, state_field(row), as_numbers)
        for row, value in enumerate(values)
    ]


def _token(value: Any, field: str, as_numbers: bool) -> bytes | None:
    if not (as_numbers and isinstance(value, list)):
        return from_text(value, field)
    if not all(type(byte) is int and 0 <= byte <= 255 for byte in value):
        raise SpecError(field, "expected whole numbers from 0 to 255, or base64")
    return from_bytes(np.array(value, np.uint8))


def split_states(rows: Sequence[Any], as_numbers: bool = False) -> tuple[list[Any], Tokens]:
    """Rows as decoded JSON → the same without `state`, and their tokens as `tokens_of` reads them."""
    tokens = tokens_of([row.get(STATE) if isinstance(row, dict) else None for row in rows], as_numbers)
    return [_without_state(row) if isinstance(row, dict) else row for row in rows], tokens


def _without_state(row: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in row.items() if name != STATE}
