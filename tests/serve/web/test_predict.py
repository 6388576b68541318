"""POST /predict of a real server process."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any

import httpcore
import msgspec
import numpy as np
import pytest
from patience import PATIENCE_S
from tests_support import Answer, Server

from carla_mlflow import Engine

GOOD = {"speed": 6.0, "steering": 0.1, "sensors": [0.1, 0.1, 0.2, 0.3, 0.5, 1, 0.5, 0.3, 0.2, 0.1, 0.1, 1]}


@pytest.fixture(scope="module")
def engine(example: Path) -> Engine:
    return Engine.open(example, device="cpu")


def rows_of(observations: dict[str, np.ndarray]) -> list[dict[str, Any]]:
    columns = [array.tolist() for array in observations.values()]
    return [dict(zip(observations, row, strict=True)) for row in zip(*columns, strict=True)]


def predict(server: Server, *rows: Any, **fields: Any) -> Answer:
    return server.post("/predict", {"observations": list(rows), **fields})


def controls(answer: Answer) -> np.ndarray:
    names = ("throttle", "brake", "steer")
    return np.array([[row[name] for name in names] for row in answer.json["actions"]], dtype=np.float32)


def test_answers_have_the_bits_of_the_engine_alone_and_in_a_batch(server: Server, engine: Engine):
    golden = engine.golden.observations
    wanted = engine.act(golden).control
    rows = rows_of(golden)
    assert controls(predict(server, *rows)).tobytes() == wanted.tobytes()
    for index in range(0, len(rows), 7):
        assert controls(predict(server, rows[index])).tobytes() == wanted[index : index + 1].tobytes()


def test_an_answer_says_which_policy_gave_it(server: Server, engine: Engine):
    answer = server.post("/predict", {"observations": [GOOD]}, **{"X-Request-Id": "car-7"})
    assert answer.status == 200
    assert set(answer.json) == {"actions", "version", "digest", "deterministic", "timing_ms"}
    assert answer.json["version"] == "0.1.0"
    assert answer.json["digest"] == engine.digest
    assert answer.json["deterministic"] is True
    timing = answer.json["timing_ms"]
    assert set(timing) == {"queue", "inference", "total"}
    assert min(timing["queue"], timing["inference"]) >= 0
    assert timing["queue"] + timing["inference"] <= timing["total"] + 0.01  # each is rounded
    assert answer.headers["x-request-id"] == "car-7"
    assert answer.headers["x-policy-version"] == "0.1.0"
    assert answer.headers["x-policy-digest"] == engine.digest


def test_an_option_that_is_null_is_an_option_that_is_absent(server: Server):
    nulls = dict.fromkeys(("deterministic", "seed", "budget_ms", "details"))
    answer = predict(server, GOOD, **nulls)
    assert answer.status == 200, answer.body
    assert (answer.json["actions"], answer.json["deterministic"]) == (predict(server, GOOD).json["actions"], True)
    assert set(answer.json) == {"actions", "version", "digest", "deterministic", "timing_ms"}
    assert predict(server, GOOD | {"speed": "fast"}, **nulls).json["error"]["field"] == "observations[0].speed"


def test_a_sample_returns_its_seed_and_can_be_drawn_again(server: Server, engine: Engine):
    first = predict(server, GOOD, GOOD, deterministic=False).json
    again = predict(server, GOOD, GOOD, deterministic=False, seed=first["seed"]).json
    assert again["actions"] == first["actions"]
    assert first["deterministic"] is False
    wanted = engine.act([GOOD], deterministic=False, seed=first["seed"]).control
    assert controls(predict(server, GOOD, deterministic=False, seed=first["seed"])).tobytes() == wanted.tobytes()


def test_details_add_raw_action_and_distribution(server: Server, engine: Engine):
    [details] = predict(server, GOOD, details=True).json["details"]
    actions = engine.act([GOOD])
    assert list(details["raw"]) == ["acceleration", "steer"]
    assert np.float32(list(details["raw"].values())).tobytes() == actions.raw.tobytes()
    assert np.float32(details["distribution"]["std"]).tobytes() == actions.distribution["std"].tobytes()


def without(name: str) -> dict[str, Any]:
    return {key: value for key, value in GOOD.items() if key != name}


@pytest.mark.parametrize(
    ("row", "field"),
    [
        (without("speed"), "observations[1].speed"),
        ({}, "observations[1].speed"),
        ({**GOOD, "sensors": [0.5] * 13}, "observations[1].sensors"),
        ({**GOOD, "sensors": [0.5] * 11}, "observations[1].sensors"),
        ({**GOOD, "sensors": [*[0.5] * 11, 1.5]}, "observations[1].sensors[11]"),
        ({**GOOD, "speed": "fast"}, "observations[1].speed"),
        ({**GOOD, "speed": "12.5"}, "observations[1].speed"),
        ({**GOOD, "speed": None}, "observations[1].speed"),
        ({**GOOD, "speed": True}, "observations[1].speed"),
        ({**GOOD, "speed": 1e9}, "observations[1].speed"),
        ({**GOOD, "speed": 1e39}, "observations[1].speed"),
        ({**GOOD, "radar": 1}, "observations[1]"),
        ([1, 2], "observations[1]"),
        (None, "observations[1]"),
    ],
)
def test_a_bad_observation_is_refused_by_row_and_field_and_the_next_request_answered(
    server: Server, row: Any, field: str
):
    answer = predict(server, GOOD, row)
    assert answer.status == 422
    error = answer.json["error"]
    assert error["code"] == "invalid_observation"
    assert error["field"] == field
    assert error["request_id"] == answer.headers["x-request-id"]
    assert predict(server, GOOD).status == 200


def test_a_refusal_tells_bound_and_value(server: Server):
    error = predict(server, {**GOOD, "speed": 1e9}).json["error"]
    assert error["message"] == "1e+09 is outside [0, 60] m/s"


GOOD_JSON = b'{"speed":6,"steering":0,"sensors":[1,1,1,1,1,1,1,1,1,1,1,1]}'


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[",
        b"nonsense",
        b"\xff\xfe",
        b"\xef\xbb\xbf{}",
        b'{"observations": [{"speed": NaN}]}',
        b'{"observations":[{"speed":Infinity}]}',
        b"[" * 100_000,
        b'{"observations":[' + GOOD_JSON + b'],"observations":[' + GOOD_JSON + b"]}",
        b'{"observations":[' + GOOD_JSON + b'],"deterministic":true,"deterministic":false}',
        b'{"observations":[' + GOOD_JSON.replace(b'{"speed":6', b'{"speed":6,"speed":50') + b"]}",
    ],
)
def test_what_is_no_json_is_bad_json(server: Server, body: bytes):
    answer = server.post("/predict", body)
    assert (answer.status, answer.json["error"]["code"]) == (400, "bad_json")
    assert server.post("/predict", b'{"observations":[' + GOOD_JSON + b"]}").status == 200


@pytest.mark.parametrize(
    "head",
    [
        b"nonsense\r\n\r\n",
        b"GET / HTTP/9.9\r\nHost: localhost\r\n\r\n",
        b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        b"Transfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n0\r\n\r\n",
        b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n{}",
        b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n",
    ],
)
def test_what_is_no_http_is_a_400_in_our_shape_and_echoes_nothing(server: Server, head: bytes):
    with socket.create_connection(("127.0.0.1", int(server.url.rpartition(":")[2])), timeout=PATIENCE_S) as raw:
        raw.sendall(head)
        answer = b""
        while b"}}" not in answer and (part := raw.recv(65536)):
            answer += part
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert msgspec.json.decode(answer.partition(b"\r\n\r\n")[2])["error"]["code"] == "bad_request"
    assert b"nonsense" not in answer


@pytest.mark.parametrize(
    ("request_", "field"),
    [
        ({}, "observations"),
        ({"observations": []}, "observations"),
        ({"observations": {}}, "observations"),
        ({"observations": [GOOD] * 1025}, "observations"),
        ({"observations": [GOOD], "deterministic": "yes"}, "deterministic"),
        ({"observations": [GOOD], "seed": 1.5, "deterministic": False}, "seed"),
        ({"observations": [GOOD], "seed": -1, "deterministic": False}, "seed"),
        ({"observations": [GOOD], "seed": 2**63, "deterministic": False}, "seed"),
        ({"observations": [GOOD], "seed": -1}, "seed"),
        ({"observations": [GOOD], "budget_ms": "soon"}, "budget_ms"),
        ({"observations": [GOOD], "budget_ms": -1}, "budget_ms"),
        ({"observations": [GOOD], "mode": "fast"}, None),
        ([], None),
    ],
)
def test_what_is_wrong_outside_the_observations_is_a_bad_request(server: Server, request_: Any, field: str | None):
    answer = server.post("/predict", request_)
    assert answer.status == 400
    assert answer.json["error"]["code"] == "bad_request"
    assert answer.json["error"].get("field") == field


INFER = {
    "inputs": [
        {"name": "speed", "shape": [1], "datatype": "FP32", "data": [6.0]},
        {"name": "steering", "shape": [1], "datatype": "FP32", "data": [0.1]},
        {"name": "sensors", "shape": [1, 12], "datatype": "FP32", "data": GOOD["sensors"]},
    ]
}


@pytest.mark.parametrize("budget", ["1e309", "1" + "0" * 400, "-0.1", "true", '"9"', "[]"])
def test_a_budget_is_a_finite_number_or_refused(server: Server, budget: str):
    body = msgspec.json.encode({"observations": [GOOD], "budget_ms": msgspec.Raw(budget.encode())})
    answer = server.post("/predict", body)
    assert (answer.status, answer.json["error"]["field"]) == (400, "budget_ms")
    body = msgspec.json.encode(INFER | {"parameters": {"budget_ms": msgspec.Raw(budget.encode())}})
    answer = server.post("/v2/models/racetrack-policy/infer", body)
    assert (answer.status, answer.json["error"].split(":")[0]) == (400, "parameters.budget_ms")


def test_a_late_answer_is_refused_with_the_cards_fallback(server: Server):
    for answer in (
        predict(server, GOOD, budget_ms=0),
        server.post("/predict", {"observations": [GOOD]}, **{"X-Request-Budget-Ms": "0"}),
    ):
        assert answer.status == 504
        assert answer.json["error"]["code"] == "deadline_exceeded"
        assert answer.json["fallback"] == {"throttle": 0.0, "brake": 1.0, "steer": 0.0}
    assert predict(server, GOOD, budget_ms=10_000).status == 200


def test_other_media_types_methods_and_paths_are_refused(server: Server):
    assert server.post("/predict", b"x", "text/plain").json["error"]["code"] == "unsupported_media_type"
    answer = server.get("/predict")
    assert (answer.status, answer.json["error"]["code"]) == (405, "method_not_allowed")
    answer = server.get("/nowhere/../etc/passwd")
    assert (answer.status, answer.json["error"]["code"]) == (404, "not_found")
    assert b"passwd" not in answer.body


def test_a_body_over_the_limit_is_refused(start_server, example: Path):
    small = start_server("--model", str(example), "--max-body-bytes", "1000")
    small.wait_ready()
    answer = predict(small, *[GOOD] * 20)
    assert (answer.status, answer.json["error"]["code"]) == (413, "body_too_large")

    def chunks():
        for _ in range(20):
            yield b" " * 100

    small.pool.close()
    small.pool = httpcore.ConnectionPool(max_connections=1)
    headers = {"Host": "localhost", "Content-Type": "application/json", "Transfer-Encoding": "chunked"}
    answer = small.pool.request("POST", small.url + "/predict", headers=headers, content=chunks())
    assert answer.status == 413


@pytest.mark.parametrize("path", ["/predict", "/invocations", "/v2/models/racetrack-policy/infer"])
def test_more_text_than_the_policys_requests_can_need_is_not_read(server: Server, path: str):
    answer = server.post(path, b'{"observations":[' + b" " * 4_000_000 + b"]}")
    assert answer.status == 413
    assert answer.json["code" if path != "/predict" else "error"] in ("body_too_large", answer.json.get("error"))


def test_the_largest_request_that_is_allowed_is_read_however_it_is_written(server: Server):
    rows = [{"speed": 59.12345678901234, "steering": -0.1234567890123456, "sensors": [0.1234567890123456] * 12}] * 1024
    pretty = json.dumps({"observations": rows}, indent=8).encode()
    assert len(server.post("/predict", pretty).json["actions"]) == 1024


def test_request_ids_that_could_forge_a_log_are_replaced(server: Server):
    answer = server.post("/predict", {"observations": [GOOD]}, **{"X-Request-Id": "a b<script>"})
    assert answer.headers["x-request-id"].isalnum()
