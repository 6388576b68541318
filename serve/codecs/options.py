"""Checks, shared by the protocols, of a request's options and of its size."""

from __future__ import annotations

import math
from typing import Any

from carla_mlflow.contract.card import Card
from carla_mlflow.contract.episode import EXPECTED, EXPECTED_DIGEST, is_digest, is_episode_id
from carla_mlflow.contract.state_rules import MAX_STATE_ELEMENTS
from carla_mlflow.contract.state_token import token_bytes
from carla_mlflow.inference.sampling import MAX_SEED
from serve.errors import ApiError

Body = bytes | memoryview
"""The body of a request. A large one is a writable view of the buffer into which it was received."""
STRINGS_OF_OPTIONS = 32
BYTES_A_BYTE = 16
"""Most bytes of a number from 0 to 255 in a list, with white space."""
MAX_TOKEN_BYTES = token_bytes(MAX_STATE_ELEMENTS)
"""Bytes of the longest state token of any policy. One may come from a version with larger states than the active one's:
that one answers if it is held, and else the client has to learn that its version is gone."""
BYTES_A_NUMBER, BYTES_A_NAME = 64, 256
"""Most bytes of each with white space: a number has 17 digits, a sign, an exponent, and an indented line of its own."""


def text_bytes(card: Card, rows: int) -> int:
    """Returns the most bytes of JSON that so many observations can need, generously; more would only cost time."""
    row = sum(BYTES_A_NUMBER * math.prod(spec.shape) + BYTES_A_NAME for spec in card.observation_spec)
    state = token_size(card)  # as base64 or, with images, as one number a byte
    per_byte = BYTES_A_BYTE if card.observation_spec.has_image else 2
    if not state:
        return BYTES_A_NAME * 64 + rows * row
    return BYTES_A_NAME * 64 + per_byte * MAX_TOKEN_BYTES + rows * (row + per_byte * state + BYTES_A_NAME)


def token_size(card: Card) -> int:
    """Returns the bytes of a state token; 0 for a policy without memory."""
    return 0 if card.memory is None else token_bytes(card.memory.size)


def row_strings(card: Card, rows: int) -> int:
    """Returns the most names and string values for so many observations, with images as base64 and all options."""
    row = sum(3 if len(spec.shape) > 1 else 1 for spec in card.observation_spec)
    return STRINGS_OF_OPTIONS + rows * (row + 2 * bool(card.states))


def check_size(text: Body, most: int) -> None:
    """Raises ApiError when a text is longer than a policy's requests can need."""
    if len(text) > most:
        raise ApiError("body_too_large", f"the text is larger than {most} bytes, which no request to this policy needs")


def check_seed(seed: Any, field: str) -> None:
    """Raises ApiError unless it is None or a seed."""
    if seed is not None and (isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed <= MAX_SEED):
        raise ApiError("bad_request", "expected a whole number from 0 to 2**63 - 1", field)


def check_budget(budget: Any, field: str) -> float | None:
    """Returns a budget in milliseconds, or None; raises ApiError for any other value."""
    if budget is None:
        return None
    try:
        given = float(budget) if type(budget) in {int, float} else -1.0
    except OverflowError:  # JSON integers are unbounded
        given = -1.0
    if not 0 <= given < math.inf:
        raise ApiError("bad_request", "expected a number of milliseconds", field)
    return given


def check_episode_id(value: Any, field: str) -> str | None:
    """Returns an episode's id, or None; raises ApiError for any other value."""
    if value is not None and not is_episode_id(value):
        raise ApiError("bad_request", EXPECTED, field)
    return None if value is None else str(value)


def check_episode_digest(value: Any, field: str) -> str | None:
    """Returns the digest of the version that began an episode, or None; raises ApiError for any other value."""
    if value is not None and not is_digest(value):
        raise ApiError("bad_request", EXPECTED_DIGEST, field)
    return None if value is None else str(value)
