"""Columns of a Parquet file → observations, checked as strictly as a request."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from carla_mlflow.contract.array_spec import ArraySpec
from carla_mlflow.contract.observations import cast
from carla_mlflow.contract.specs import ObservationSpec
from carla_mlflow.errors import SpecError

Arrays = dict[str, NDArray[Any]]


def columns_read(kept: Iterable[str], specs: ObservationSpec) -> list[str]:
    """The columns that are read: those to be copied into the output, then one per field of the observation."""
    return [*dict.fromkeys((*kept, *specs.names))]


def observations_in(specs: ObservationSpec, batch: pa.RecordBatch) -> Arrays:
    """Returns the observations of some rows; the engine checks their bounds.

    A scalar field is a column of numbers; an array is a column of nested lists, or of bytes (little-endian, C order).

    Raises:
        SpecError: a column is missing or of another type, or a value does not fit; names row and field.
    """
    found = {}
    for spec in specs:
        if spec.name not in batch.schema.names:
            raise SpecError(spec.name, f"there is no such column; there are {', '.join(batch.schema.names)}")
        found[spec.name] = _field(spec, batch.column(spec.name))
    return found


def _field(spec: ArraySpec, column: pa.Array) -> NDArray[Any]:
    if spec.shape and (pa.types.is_binary(column.type) or pa.types.is_large_binary(column.type)):
        return _from_bytes(spec, column)
    shape = (len(column), *spec.shape)
    for size in spec.shape:
        column = _one_level(spec, column, size, len(shape))
    _no_nulls(spec, column, math.prod(spec.shape))
    if not (pa.types.is_integer(column.type) or pa.types.is_floating(column.type)):
        raise SpecError(spec.name, f"expected numbers, got {column.type}")
    values = column.to_numpy(zero_copy_only=False).reshape(shape)
    return np.ascontiguousarray(values) if values.dtype == spec.dtype else cast(spec, values.astype(np.float64))


def _one_level(spec: ArraySpec, column: pa.Array, size: int, depth: int) -> pa.Array:
    """Lists of `size` elements → the elements, in one flat array."""
    if pa.types.is_fixed_size_list(column.type):
        if column.type.list_size != size:
            raise SpecError(spec.name, f"expected lists of {size} values, got {column.type.list_size}")
    elif not (pa.types.is_list(column.type) or pa.types.is_large_list(column.type)):
        raise SpecError(spec.name, f"expected lists {depth - 1} deep, got {column.type}")
    _no_nulls(spec, column, 1)
    lengths = np.asarray(column.value_lengths())
    if (lengths != size).any():
        row = int(np.argmax(lengths != size))
        raise SpecError(f"observations[{row}].{spec.name}", f"expected {size} values, got {lengths[row]}")
    return column.flatten()


def _no_nulls(spec: ArraySpec, column: pa.Array, per_row: int) -> None:
    if column.null_count:
        place = int(np.argmax(column.is_null().to_numpy(zero_copy_only=False)))
        raise SpecError(f"observations[{place // per_row}].{spec.name}", "expected a number, got null")


def _from_bytes(spec: ArraySpec, column: pa.Array) -> NDArray[Any]:
    dtype = np.dtype(spec.dtype).newbyteorder("<")
    wanted = math.prod(spec.shape) * dtype.itemsize
    rows = np.empty((len(column), *spec.shape), spec.dtype)
    for row, value in enumerate(column):
        data = value.as_buffer()
        if data is None or data.size != wanted:
            given = "null" if data is None else data.size
            raise SpecError(f"observations[{row}].{spec.name}", f"expected {wanted} bytes, got {given}")
        rows[row] = np.frombuffer(data, dtype).reshape(spec.shape)
    return rows
