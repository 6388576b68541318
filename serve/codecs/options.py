"""What a request may say beside its observations, wherever a protocol has it say so."""

from __future__ import annotations

import math
from typing import Any

from carla_mlflow.contract.specs import ObservationSpec
from carla_mlflow.inference.sampling import MAX_SEED
from serve.errors import ApiError

Body = bytes | memoryview
"""Of a request. A large one lies where it was received, and may be written to."""
STRINGS_OF_OPTIONS = 32
BYTES_A_NUMBER, BYTES_A_NAME = 64, 256
"""With white space around them: seventeen digits, a sign, an exponent, and an indented line of their own."""


def text_bytes(specs: ObservationSpec, rows: int) -> int:
    """Of JSON that so many observations can need, generously: what is longer only costs others time."""
    row = sum(BYTES_A_NUMBER * math.prod(spec.shape) + BYTES_A_NAME for spec in specs)
    return BYTES_A_NAME * 64 + rows * row


def row_strings(specs: ObservationSpec, rows: int) -> int:
    """Names and values in quotes that so many observations can need, with an image as base64, and all options."""
    return STRINGS_OF_OPTIONS + rows * sum(3 if len(spec.shape) > 1 else 1 for spec in specs)


def check_size(text: Body, most: int) -> None:
    """Raises ApiError when a text is longer than a policy's requests can need."""
    if len(text) > most:
        raise ApiError("body_too_large", f"no request of this policy needs more than {most} bytes of text")


def check_seed(seed: Any, field: str) -> None:
    """Raises ApiError unless it is None or a seed."""
    if seed is not None and (isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed <= MAX_SEED):
        raise ApiError("bad_request", "expected a whole number from 0 to 2**63 - 1", field)


def check_budget(budget: Any, field: str) -> float | None:
    """A budget in milliseconds, or None; raises ApiError when it is neither."""
    if budget is None:
        return None
    try:
        given = float(budget) if type(budget) in {int, float} else -1.0
    except OverflowError:  # JSON's whole numbers have no largest
        given = -1.0
    if not 0 <= given < math.inf:
        raise ApiError("bad_request", "expected a number of milliseconds", field)
    return given
