"""JSON as the standard has it: NaN and Infinity are no JSON, and a name stands once in an object."""

from __future__ import annotations

import json
from typing import Any

from serve.errors import ApiError


def decode(body: bytes) -> Any:
    """Decodes a whole body, slowly and strictly.

    Raises:
        ApiError: bad_json, with the line and column of the fault where the decoder knows it.
    """
    try:
        return json.loads(body.decode(), parse_constant=_refuse_constant, object_pairs_hook=_refuse_duplicates)
    except json.JSONDecodeError as error:
        raise ApiError("bad_json", f"not JSON: {error.msg} at line {error.lineno}, column {error.colno}") from error
    except (ValueError, RecursionError) as error:  # not UTF-8, an integer of thousands of digits, nesting too deep
        raise ApiError("bad_json", "not JSON that can be read here") from error


def _refuse_constant(name: str) -> Any:
    raise ApiError("bad_json", f"not JSON: {name} is no JSON value")


def _refuse_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    decoded = dict(pairs)
    if len(decoded) != len(pairs):
        raise ApiError("bad_json", "an object has the same name twice")
    return decoded
