from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from carla_mlflow import ArraySpec, ObservationSpec
from carla_mlflow.contract.observations import as_arrays, collect
from carla_mlflow.errors import SpecError

SPECS = ObservationSpec(
    (
        ArraySpec("speed", "float32", (), 0.0, 60.0, "m/s"),
        ArraySpec("sensors", "float32", (3,), 0.0, 1.0),
    )
)
ROW = {"speed": 5.0, "sensors": [0.1, 0.2, 0.3]}


def test_arrays_rows_and_frames_of_the_same_values_give_the_same_bits():
    rows = [{"speed": 0.1 * i, "sensors": [0.1, 0.2 * i, 0.3]} for i in range(4)]
    columns = {name: [row[name] for row in rows] for name in SPECS.names}
    wanted = collect(SPECS, rows)
    for form in (
        pd.DataFrame(columns),
        {name: np.array(values) for name, values in columns.items()},
        {name: np.array(values, dtype=np.float32) for name, values in columns.items()},
        tuple(rows),
    ):
        for name, array in collect(SPECS, form).items():
            assert array.dtype == np.float32
            assert array.tobytes() == wanted[name].tobytes()


@pytest.mark.parametrize(
    ("row", "field", "problem"),
    [
        ({"sensors": [0, 0, 0]}, r"observations\[1\]\.speed", "is missing"),
        ({**ROW, "extra": 1}, r"observations\[1\]", "unknown field"),
        ({**ROW, "sensors": [0, 0, 0, 0]}, r"observations\[1\]\.sensors", "expected 3 values, got 4"),
        ({**ROW, "sensors": 1.0}, r"observations\[1\]\.sensors", "expected 3 values, got a number"),
        ({**ROW, "sensors": [0, None, 0]}, r"observations\[1\]\.sensors\[1\]", "expected a number, got null"),
        ({**ROW, "speed": "fast"}, r"observations\[1\]\.speed", "expected a number, got a string"),
        ({**ROW, "speed": "12.5"}, r"observations\[1\]\.speed", "expected a number, got a string"),
        ({**ROW, "speed": True}, r"observations\[1\]\.speed", "expected a number, got a boolean"),
        ({**ROW, "speed": None}, r"observations\[1\]\.speed", "expected a number, got null"),
        ({**ROW, "speed": [1.0]}, r"observations\[1\]\.speed", "expected a number, got an array"),
        ({**ROW, "speed": float("nan")}, r"observations\[1\]\.speed", "not a finite"),
        ({**ROW, "speed": 1e39}, r"observations\[1\]\.speed", "not a finite"),
        ({**ROW, "speed": 10**400}, r"observations\[1\]\.speed", "too large"),
        ({**ROW, "speed": 1e9}, r"observations\[1\]\.speed", r"1e\+09 is outside \[0, 60\] m/s"),
        ({}, r"observations\[1\]\.speed", "is missing"),
        (7, r"observations\[1\]", "expected an object, got a number"),
    ],
)
def test_a_bad_row_is_refused_by_row_and_field(row: Any, field: str, problem: str):
    with pytest.raises(SpecError, match=f"^{field}: .*{problem}"):
        collect(SPECS, [ROW, row])


@pytest.mark.parametrize("observations", [None, "text", 3, b"bytes"])
def test_what_is_no_collection_is_refused(observations: Any):
    with pytest.raises(SpecError, match="expected arrays, a DataFrame or rows"):
        collect(SPECS, observations)


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        ([[1.0, 2.0], [1.0]], "all alike"),
        (np.ma.masked_array(np.zeros((2, 3)), mask=True), "masked"),
    ],
)
def test_a_ragged_or_masked_array_is_refused(value: Any, problem: str):
    specs = ObservationSpec([ArraySpec("x", "float32", (3,), -5.0, 5.0)])
    with pytest.raises(SpecError, match=problem):
        as_arrays(specs, {"x": value})
    with pytest.raises(SpecError):
        as_arrays(specs, [{"x": row} for row in value])


def test_an_array_of_objects_is_refused():
    with pytest.raises(SpecError, match="speed: expected an array of numbers"):
        collect(SPECS, {"speed": np.array(["5"]), "sensors": np.zeros((1, 3))})


def test_an_image_takes_whole_numbers_only():
    specs = ObservationSpec((ArraySpec("bev", "uint8", (1, 2, 2), 0, 255),))
    assert collect(specs, {"bev": np.full((1, 1, 2, 2), 7)})["bev"].dtype == np.uint8
    for value in (0.5, 256, -1):
        with pytest.raises(SpecError, match=r"observations\[0\]\.bev\[0\].*whole number from 0 to 255"):
            collect(specs, {"bev": np.full((1, 1, 2, 2), value)})
