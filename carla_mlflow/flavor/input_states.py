"""The state tokens among the inputs of a pyfunc model with memory."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from ..contract.state_token import from_bytes, from_text
from ..errors import SpecError

STATE = "state"


def split_input(model_input: Any, token_bytes: int) -> tuple[Any, list[bytes | None] | None]:
    """Takes `state` out of a model's input.

    Args:
        model_input: a DataFrame, in which the column `state` holds base64 texts and may be missing, null or empty where
            an episode begins; or a dict of arrays, in which it is uint8 (B, N), zeros where an episode begins.
        token_bytes: the length of a token, N.

    Returns:
        The input without it, and the tokens of all rows; None where no row has any.

    Raises:
        SpecError: a value is no token; names the row.
    """
    if isinstance(model_input, pd.DataFrame):
        if STATE not in model_input.columns:
            return model_input, None
        texts = [None if pd.isna(text) else text for text in model_input[STATE].tolist()]
        tokens = [from_text(text, f"observations[{row}].{STATE}") for row, text in enumerate(texts)]
        return model_input.drop(columns=STATE), tokens
    if not isinstance(model_input, dict) or STATE not in model_input:
        return model_input, None
    array = np.asarray(model_input[STATE])
    if array.ndim != 2 or array.shape[1] != token_bytes or array.dtype != np.uint8:
        wanted = f"expected uint8 [rows, {token_bytes}]"
        raise SpecError(f"observations.{STATE}", f"{wanted}, got {array.dtype} {list(array.shape)}")
    others = {name: value for name, value in model_input.items() if name != STATE}
    return others, [from_bytes(row) for row in array]
