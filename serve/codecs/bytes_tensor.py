"""State tokens as a BYTES tensor of the Open Inference Protocol: base64 in the JSON, length and bytes after it."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any

from carla_mlflow.contract.state_token import STATE, from_text, state_field, to_text
from carla_mlflow.errors import SpecError
from serve.codecs.options import Body
from serve.codecs.state_rows import Tokens
from serve.codecs.tensor_entry import BYTES, LENGTH_BYTES

_LENGTH = struct.Struct("<I")


def tokens_of_json(data: Any, rows: int) -> Tokens:
    """The tokens of a tensor in the JSON, one a row; None where the text is empty or null.

    Args:
        data: texts, or for the shape [B, 1] perhaps lists of one text each.
        rows: B.

    Raises:
        SpecError: it is no list of so many base64 texts; names the row.
    """
    if not isinstance(data, list) or len(data) != rows:
        raise SpecError("observations.state", f"expected a list of {rows} base64 texts, one for each row")
    texts = [each[0] if isinstance(each, list) and len(each) == 1 else each for each in data]
    return [from_text(text, state_field(row)) for row, text in enumerate(texts)]


def tokens_of_bytes(data: Body, rows: int) -> Tokens:
    """The tokens of a tensor after the JSON: for each row a length and so many bytes; None where there are none.

    A tensor of no bytes at all begins every row.

    Raises:
        SpecError: the lengths do not fit the bytes; names the row.
    """
    if not len(data):
        return [None] * rows
    found, at = Tokens(), 0
    for row in range(rows):
        if at + LENGTH_BYTES > len(data):
            raise SpecError(state_field(row), "the tensor ends before this row")
        [length] = _LENGTH.unpack_from(data, at)
        at += LENGTH_BYTES
        if at + length > len(data):
            raise SpecError(state_field(row), "is longer than what is left of the tensor")
        found.append(bytes(data[at : at + length]) or None)
        at += length
    if at != len(data):
        raise SpecError("observations.state", f"the tensor is longer than its {rows} rows")
    return found


def state_output(tokens: Sequence[bytes], binary: bool) -> tuple[dict[str, Any], bytes]:
    """The entry of the output in the JSON, and its bytes after that; none where they are in the JSON."""
    entry: dict[str, Any] = {"name": STATE, "datatype": BYTES, "shape": [len(tokens)]}
    if not binary:
        return entry | {"data": [to_text(token) for token in tokens]}, b""
    data = b"".join([_LENGTH.pack(len(token)) + token for token in tokens])
    return entry | {"parameters": {"binary_data_size": len(data)}}, data
