"""The entry of one input tensor in an Open Inference Protocol request: everything in it except the numbers.

Each function raises ApiError, bad_request, which names the place; `where` is that of the entry.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from carla_mlflow.contract.array_spec import ArraySpec
from serve.codecs.options import MAX_TOKEN_BYTES
from serve.errors import ApiError

DATATYPES = {"float32": "FP32", "uint8": "UINT8"}
"""The name of each dtype in the Open Inference Protocol."""
BYTES = "BYTES"
"""The datatype of the tensor STATE: an optional input, and an output, of policies with memory."""
LENGTH_BYTES = 4
"""Bytes of the length before each element of a BYTES tensor after the JSON, uint32, little-endian."""


def check_input(spec: ArraySpec, entry: dict[str, Any], max_rows: int, where: str) -> None:
    """Checks datatype, shape and size of a tensor with observations."""
    if entry.get("datatype") != DATATYPES[spec.dtype]:
        raise ApiError("bad_request", f"expected {DATATYPES[spec.dtype]}", f"{where}.datatype")
    shape: Any = entry.get("shape")
    whole = isinstance(shape, list) and shape and all(type(size) is int for size in shape)
    if not whole or shape[1:] not in ([list(spec.shape)] if spec.shape else [[], [1]]):
        raise ApiError("bad_request", f"expected [B{''.join(f', {n}' for n in spec.shape)}]", f"{where}.shape")
    if not 1 <= shape[0] <= max_rows:
        raise ApiError("bad_request", f"expected 1 to {max_rows} observations", f"{where}.shape")
    size = _binary_size(entry, where)
    expected = math.prod(shape) * np.dtype(spec.dtype).itemsize
    if size is not None and (type(size) is not int or size != expected):
        raise ApiError(
            "bad_request", f"expected {expected} bytes: shape × datatype", f"{where}.parameters.binary_data_size"
        )


def check_state(entry: dict[str, Any], max_rows: int, where: str) -> None:
    """Checks datatype, shape and size of the tensor with state tokens."""
    if entry.get("datatype") != BYTES:
        raise ApiError("bad_request", f"expected {BYTES}", f"{where}.datatype")
    shape: Any = entry.get("shape")
    if not isinstance(shape, list) or not shape or type(shape[0]) is not int or shape[1:] not in ([], [1]):
        raise ApiError("bad_request", "expected [B]", f"{where}.shape")
    if not 1 <= shape[0] <= max_rows:
        raise ApiError("bad_request", f"expected 1 to {max_rows} observations", f"{where}.shape")
    size, most = _binary_size(entry, where), shape[0] * (LENGTH_BYTES + MAX_TOKEN_BYTES)
    if size is not None and (type(size) is not int or not 0 <= size <= most):
        text = f"expected at most {most} bytes: for each row a length of 4 bytes and a token"
        raise ApiError("bad_request", text, f"{where}.parameters.binary_data_size")


def _binary_size(entry: dict[str, Any], where: str) -> Any:
    """The size of a tensor after the JSON, of any type; None for one in the JSON."""
    size = object_of(entry.get("parameters", {}), f"{where}.parameters", ("binary_data_size",)).get("binary_data_size")
    if ("data" in entry) == (size is not None):
        raise ApiError("bad_request", "expected either data or binary_data_size", where)
    return size


def object_of(value: Any, where: str, names: tuple[str, ...]) -> dict[str, Any]:
    """The value, if it is an object with no other keys than these."""
    if not isinstance(value, dict) or not set(value) <= set(names):
        raise ApiError("bad_request", f"expected an object with no other keys than {', '.join(names)}", where or None)
    return value
