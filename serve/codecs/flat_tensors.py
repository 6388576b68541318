"""Decodes the JSON of an Open Inference Protocol request whose tensors are flat lists of numbers, in half the time.

The decoder knows that they hold numbers only, and so makes floats at once. All other requests are left to
`strict_json`: also those that are invalid, since its errors say where and why.
"""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import UNSET, UnsetType

from serve.codecs import strict_json


class _Tensor(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """An input whose data, if it is in the JSON, is one flat list of numbers; nothing else in it is checked."""

    name: Any = UNSET
    shape: Any = UNSET
    datatype: Any = UNSET
    parameters: Any = UNSET
    data: list[float] | UnsetType = UNSET


class _Document(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    inputs: list[_Tensor]
    id: Any = UNSET
    parameters: Any = UNSET
    outputs: Any = UNSET


_decoder = msgspec.json.Decoder(_Document)


def decode_flat(body: bytes, most_strings: int) -> dict[str, Any] | None:
    """Decodes a whole body.

    Args:
        body: UTF-8.
        most_strings: the most names and string values of a valid document; one with more is not decoded.

    Returns:
        The same as `strict_json.decode`, but for all of the tensors' numbers being floats; None where that has to
        decide: the JSON is of another kind, invalid, or has an object with the same name twice.
    """
    quotes = strict_json.quotes(body)
    if quotes > 2 * most_strings + strict_json.ESCAPED:
        return None
    try:
        found = _decoder.decode(body)
    except (msgspec.DecodeError, ValueError, RecursionError):
        return None
    document = _fields_of(found)
    document["inputs"] = inputs = [_fields_of(tensor) for tensor in found.inputs]
    data = [tensor.pop("data", None) for tensor in inputs]  # numbers, of which no string need be counted
    names = sum(numbers is not None for numbers in data)
    if quotes != 2 * (strict_json.strings(document) + names):
        return None
    for tensor, numbers in zip(inputs, data, strict=True):
        if numbers is not None:
            tensor["data"] = numbers
    return document


def _fields_of(struct: msgspec.Struct) -> dict[str, Any]:
    """The names and values that the JSON had."""
    values = ((name, getattr(struct, name)) for name in struct.__struct_fields__)
    return {name: value for name, value in values if value is not UNSET}
