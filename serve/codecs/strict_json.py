"""Strict JSON: NaN and Infinity are refused, and so is an object with the same name twice.

The fast decoder silently keeps the last of two equal names, so the strings in its result are counted and compared with
the quotes in the bytes. If they differ, or if it fails, a slow decoder follows, whose errors say where and why.
"""

from __future__ import annotations

import json
from typing import Any

import msgspec
import numpy as np

from serve.errors import ApiError

NUMBERS = {int, float}
QUOTE, FEW_BYTES = ord('"'), 8192
"""Above this many bytes numpy counts faster."""
LARGE = 64 * 1024
ESCAPED = 512
"""Most quotes inside the strings of a large document."""

_fast = msgspec.json.Decoder()


def decode(body: bytes, most_strings: int) -> Any:
    """Decodes a whole body.

    Args:
        body: UTF-8.
        most_strings: the most names and string values of a valid document; a large one with more is not decoded.

    Raises:
        ApiError: bad_json, with the line and column of the fault where the decoder knows it; bad_request for too
            many strings.
    """
    found = quotes(body)
    if len(body) > LARGE and found > 2 * most_strings + ESCAPED:
        raise ApiError("bad_request", "more names and strings than any request to this policy has")
    try:
        document = _fast.decode(body)
        if found == 2 * strings(document):
            return document
    except (msgspec.DecodeError, ValueError, RecursionError):
        pass
    return _decode_slowly(body)


def quotes(body: bytes) -> int:
    """Counts the bytes that are quotes."""
    if len(body) < FEW_BYTES:
        return body.count(b'"')
    return int(np.count_nonzero(np.frombuffer(body, np.uint8) == QUOTE))


def strings(document: Any) -> int:
    """Counts the names and the string values in a document."""
    count, waiting = 0, [document]
    while waiting:
        value = waiting.pop()
        if type(value) is dict:
            count += len(value)
            waiting += value.values()
        elif type(value) is list:
            if not set(map(type, value)) <= NUMBERS:
                waiting += value
        elif type(value) is str:
            count += 1
    return count


def _decode_slowly(body: bytes) -> Any:
    try:
        return json.loads(body.decode(), parse_constant=_refuse_constant, object_pairs_hook=_refuse_duplicates)
    except json.JSONDecodeError as error:
        raise ApiError("bad_json", f"not JSON: {error.msg} at line {error.lineno}, column {error.colno}") from error
    except (ValueError, RecursionError) as error:  # not UTF-8, an integer of thousands of digits, nesting too deep
        raise ApiError("bad_json", "not UTF-8, nested too deeply, or a number too long") from error


def _refuse_constant(name: str) -> Any:
    raise ApiError("bad_json", f"not JSON: {name} is not a JSON value")


def _refuse_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    decoded = dict(pairs)
    if len(decoded) != len(pairs):
        raise ApiError("bad_json", "an object has a duplicate key")
    return decoded
