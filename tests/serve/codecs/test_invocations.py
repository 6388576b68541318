"""POST /invocations beside a real `mlflow models serve` of the same model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests_support import Server

from carla_mlflow import Engine

COLUMNS = ["speed", "steering", "sensors"]


@pytest.fixture(scope="module")
def engine(example: Path) -> Engine:
    return Engine.open(example, device="cpu")


def rows_of(engine: Engine, count: int | None = None) -> list[list[Any]]:
    columns = [engine.golden.observations[name][:count].tolist() for name in COLUMNS]
    return [list(row) for row in zip(*columns, strict=True)]


def forms(engine: Engine) -> list[Any]:
    rows = rows_of(engine, 5)
    records = [dict(zip(COLUMNS, row, strict=True)) for row in rows]
    return [
        {"dataframe_split": {"columns": COLUMNS, "data": rows}},
        {"dataframe_split": {"index": list(range(5)), "columns": COLUMNS[::-1], "data": [row[::-1] for row in rows]}},
        {"dataframe_records": records},
        {"instances": records},
        {"inputs": records},
        {"inputs": records, "params": {}},
        {"inputs": records, "params": {"deterministic": True}},
        {"inputs": records, "params": {"deterministic": False, "seed": 7}},
        {"dataframe_split": {"columns": COLUMNS, "data": rows}, "params": {"deterministic": False, "seed": 2**40}},
    ]


def actions(document: Any) -> np.ndarray:
    rows = [[row[name] for name in ("throttle", "brake", "steer")] for row in document["predictions"]]
    return np.array(rows, dtype=np.float32)


def test_every_form_gives_the_engines_bits(server: Server, engine: Engine):
    wanted = engine.act({name: array[:5] for name, array in engine.golden.observations.items()}).control
    for body in forms(engine):
        answer = server.post("/invocations", body)
        assert answer.status == 200, answer.body
        if body.get("params", {}).get("deterministic", True):
            assert actions(answer.json).tobytes() == wanted.tobytes()


@pytest.mark.parametrize("form", ["inputs", "instances"])
def test_one_row_may_be_an_object(server: Server, engine: Engine, form: str):
    wanted = engine.act({name: array[:1] for name, array in engine.golden.observations.items()}).control
    answer = server.post("/invocations", {form: dict(zip(COLUMNS, rows_of(engine, 1)[0], strict=True))})
    assert actions(answer.json).tobytes() == wanted.tobytes()


@pytest.mark.parametrize(
    ("body", "status", "ours", "theirs"),
    [
        (b"nonsense", 400, "bad_json", "BAD_REQUEST"),
        (b"{}", 400, "bad_request", "BAD_REQUEST"),
        (b'{"inputs": [], "instances": []}', 400, "bad_request", "BAD_REQUEST"),
        (b'{"inputs": [{"speed": NaN}]}', 400, "bad_json", "BAD_REQUEST"),
        (b'{"inputs": [{"speed": 1}]}', 422, "invalid_observation", "INVALID_PARAMETER_VALUE"),
        (b'{"inputs": [{}], "params": {"temperature": 1}}', 400, "bad_request", "BAD_REQUEST"),
        (b'{"dataframe_split": {"columns": ["speed"], "data": [[1, 2]]}}', 400, "bad_request", "BAD_REQUEST"),
        (b'{"dataframe_records": [1]}', 422, "invalid_observation", "INVALID_PARAMETER_VALUE"),
        (b'{"inputs": {"speed": [1], "steering": []}}', 400, "bad_request", "BAD_REQUEST"),
    ],
)
def test_errors_have_mlflows_shape_with_our_code_beside_it(
    server: Server, body: bytes, status: int, ours: str, theirs: str
):
    answer = server.post("/invocations", body)
    assert answer.status == status
    assert answer.json["code"] == ours
    assert answer.json["error_code"] == theirs
    assert set(answer.json) == {"error_code", "message", "code", "request_id"}


def test_csv_is_refused_for_a_policy_that_observes_arrays(server: Server):
    answer = server.post("/invocations", b"speed,steering\n1,0\n", "text/csv")
    assert answer.status == 400
    assert "send JSON" in answer.json["message"]
