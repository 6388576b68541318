"""The state tokens among the inputs of a pyfunc model with memory."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ..contract.state_token import STATE, from_bytes, from_text
from ..errors import SpecError


def split_input(model_input: Any, token_bytes: int) -> tuple[Any, list[bytes | None] | None]:
    """Takes `state` out of a model's input.

    Args:
        model_input: a DataFrame, in which the column `state` holds base64 texts and may be missing, null or empty where
            an episode begins; or a dict of arrays, in which it is uint8 (B, N), zeros where an episode begins, or as in
            a DataFrame (B,) texts.
        token_bytes: the length of a token, N.

    Returns:
        The input without it, and the tokens of all rows; None where no row has any.

    Raises:
        SpecError: a value is no token, and names the row; or there is not one for each row of the observations.
    """
    if isinstance(model_input, pd.DataFrame):
        if STATE not in model_input.columns:
            return model_input, None
        return model_input.drop(columns=STATE), _of_texts(model_input[STATE].tolist())
    if not isinstance(model_input, dict) or STATE not in model_input:
        return model_input, None
    others = {name: value for name, value in model_input.items() if name != STATE}
    tokens = _of_array(np.asarray(model_input[STATE]), token_bytes)
    for name, value in others.items():
        if np.ndim(value) and len(value) != len(tokens):
            text = f"expected {len(value)} rows, as many as {name} has, got {len(tokens)}"
            raise SpecError(f"observations.{STATE}", text)
    return others, tokens


def _of_array(array: NDArray[Any], token_bytes: int) -> list[bytes | None]:
    if array.ndim == 1 and array.dtype.kind in "OU":
        return _of_texts(array.tolist())
    if array.ndim != 2 or array.shape[1] != token_bytes or array.dtype != np.uint8:
        wanted = f"expected uint8 [rows, {token_bytes}], or [rows] base64 texts"
        raise SpecError(f"observations.{STATE}", f"{wanted}, got {array.dtype} {list(array.shape)}")
    return [from_bytes(row) for row in array]


def _of_texts(values: list[Any]) -> list[bytes | None]:
    texts = [None if pd.api.types.is_scalar(value) and pd.isna(value) else value for value in values]
    return [from_text(text, f"observations[{row}].{STATE}") for row, text in enumerate(texts)]
