"""Converts the observations that callers pass (dicts of arrays, DataFrames, lists of dicts) to arrays by the spec.

Nothing is guessed: a number that the dtype can't hold is refused; strings, booleans and None are never numbers.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import SpecError
from .array_spec import ArraySpec, rows_of
from .specs import ObservationSpec, check_names

Arrays = dict[str, NDArray[Any]]
MAX_INT = 2**1023
"""The largest int that counts as a number; not much larger ones have no float64."""


def as_arrays(specs: ObservationSpec, observations: Any) -> Arrays:
    """Turns observations into arrays, in the order of the specs; `specs.validate` or the engine checks bounds later.

    Args:
        specs: of the policy.
        observations: a mapping of arrays with the batch axis first, a pandas DataFrame with one column per name,
            or a sequence of mappings, one per row.

    Returns:
        Contiguous arrays of the specs' dtypes, each (B, *shape).

    Raises:
        SpecError: names the row, the field, and what is wrong.
    """
    if hasattr(observations, "columns") and hasattr(observations, "iloc"):
        return _from_columns(specs, {str(name): list(observations[name]) for name in observations.columns})
    if isinstance(observations, Mapping):
        check_names(specs.names, observations.keys(), "observations")
        return {spec.name: _convert(spec, observations[spec.name]) for spec in specs}
    if isinstance(observations, Sequence) and not isinstance(observations, str | bytes):
        return from_rows(specs, observations)
    raise SpecError("observations", f"expected arrays, a DataFrame or rows, got {_json_type(observations)}")


def collect(specs: ObservationSpec, observations: Any) -> Arrays:
    """As `as_arrays`, with every value checked against its bounds."""
    arrays = as_arrays(specs, observations)
    specs.validate(arrays)
    return arrays


def from_rows(specs: ObservationSpec, rows: Sequence[Any]) -> Arrays:
    """Turns rows of named values into arrays; checks types and shapes, but not bounds (see `specs.validate`)."""
    for index, row in enumerate(rows):
        if not isinstance(row, Mapping):
            raise SpecError(f"observations[{index}]", f"expected an object, got {_json_type(row)}")
        check_names(specs.names, row.keys(), f"observations[{index}]")
    return _from_columns(specs, {name: [row[name] for row in rows] for name in specs.names})


def _from_columns(specs: ObservationSpec, columns: Mapping[str, list[Any]]) -> Arrays:
    check_names(specs.names, columns.keys(), "observations")
    arrays = {}
    for spec in specs:
        values = _plain(columns[spec.name], spec.shape)
        if values is None:
            for row, value in enumerate(columns[spec.name]):
                _check_value(value, spec.shape, f"observations[{row}].{spec.name}", spec.dtype)
            values = np.array(columns[spec.name], dtype=np.float64).reshape(-1, *spec.shape)
        arrays[spec.name] = cast(spec, values)
    return arrays


def _plain(column: list[Any], shape: tuple[int, ...]) -> NDArray[np.float64] | None:
    """The values of all rows as one array; None unless they are int and float in lists of the right lengths."""
    flat = column
    for size in shape:
        if not all(type(part) is list and len(part) == size for part in flat):
            return None
        flat = list(itertools.chain.from_iterable(flat))
    kinds = set(map(type, flat))
    if not kinds <= {int, float}:
        return None
    try:
        values = np.array(flat, dtype=np.float64)
    except OverflowError:  # an int that is too large
        return None
    may_be_large = int in kinds and bool((np.abs(values) >= float(MAX_INT)).any())
    return None if may_be_large else values.reshape(len(column), *shape)


def _check_value(value: Any, shape: tuple[int, ...], field: str, dtype: str) -> None:
    """Checks one value of one row; raises SpecError at the first element that does not fit the spec."""
    if isinstance(value, np.ma.MaskedArray):
        raise SpecError(field, "is a masked array: fill in or leave out what is masked")
    if isinstance(value, np.ndarray):
        if value.shape != shape:
            raise SpecError(field, f"expected shape {list(shape)}, got {list(value.shape)}")
        if value.dtype.kind not in "fiu":
            raise SpecError(field, f"expected numbers, got {value.dtype}")
        return
    if shape:
        if not isinstance(value, list | tuple):
            raise SpecError(field, f"expected {shape[0]} values, got {_json_type(value)}")
        if len(value) != shape[0]:
            raise SpecError(field, f"expected {shape[0]} values, got {len(value)}")
        for index, element in enumerate(value):
            _check_value(element, shape[1:], f"{field}[{index}]", dtype)
        return
    if isinstance(value, bool | np.bool_) or not isinstance(value, int | float | np.integer | np.floating):
        raise SpecError(field, f"expected a number, got {_json_type(value)}")
    if isinstance(value, int) and abs(value) > MAX_INT:  # float() would raise
        raise SpecError(field, "is too large for a number")


def _convert(spec: ArraySpec, value: Any) -> NDArray[Any]:
    if isinstance(value, np.ma.MaskedArray):
        raise SpecError(f"observations.{spec.name}", "is a masked array: fill in or leave out what is masked")
    try:
        array = np.asarray(value)
    except ValueError as error:  # lists of different lengths
        raise SpecError(f"observations.{spec.name}", f"expected rows of shape {list(spec.shape)}, all alike") from error
    if array.dtype.kind not in "fiu":
        raise SpecError(f"observations.{spec.name}", f"expected an array of numbers, got {array.dtype}")
    if array.shape[1:] != spec.shape or array.ndim != len(spec.shape) + 1:
        raise SpecError(f"observations.{spec.name}", f"expected shape {rows_of(spec.shape)}, got {list(array.shape)}")
    return np.ascontiguousarray(array) if array.dtype == spec.dtype else cast(spec, array)


def cast(spec: ArraySpec, values: NDArray[Any]) -> NDArray[Any]:
    """Casts to the spec's dtype. A number too large for float32 becomes an infinity, which validation refuses."""
    if spec.dtype == "uint8":
        bad = ~((values >= 0) & (values <= 255) & (values == np.rint(values)))  # also true for a NaN
        if bad.any():
            row, *place = (int(i) for i in np.argwhere(bad)[0])
            field = f"observations[{row}].{spec.name}" + "".join(f"[{i}]" for i in place)
            raise SpecError(field, "expected a whole number from 0 to 255")
        return np.ascontiguousarray(values, dtype=np.uint8)
    with np.errstate(over="ignore"):
        return np.ascontiguousarray(values, dtype=np.float32)


def _json_type(value: Any) -> str:
    """The name of a value's type in JSON; errors never quote the value itself."""
    for kinds, name in (
        ((bool, np.bool_), "a boolean"),
        ((int, float, np.number), "a number"),
        ((str, bytes), "a string"),
        ((list, tuple, np.ndarray), "an array"),
        ((Mapping,), "an object"),
    ):
        if isinstance(value, kinds):
            return name
    return "null" if value is None else type(value).__name__
