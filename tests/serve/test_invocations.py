"""POST /invocations beside a real `mlflow models serve` of the same model."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpcore
import msgspec
import numpy as np
import pytest
from tests_support import Server, run_command

from benchmarks.free_port import free_port
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


@pytest.fixture(scope="module")
def mlflow_server(tmp_path_factory: pytest.TempPathFactory, example: Path) -> Iterator[str]:
    """`mlflow models serve` of the registered example, as the README starts it."""
    home = tmp_path_factory.mktemp("home")
    env = {"MLFLOW_TRACKING_URI": f"sqlite:///{home}/mlflow.db", "POLICY_CACHE_DIR": str(home / "cache")}
    for command in (
        ["register", str(example), "--name", "carla-policy"],
        ["promote", "carla-policy@0.1.0", "--to", "production", "--force", "--reason", "a test"],
    ):
        done = run_command("carla-registry", *command, env=env)
        assert done.code == 0, done.err
    import os

    port = free_port()
    command = [str(Path(sys.executable).parent / "mlflow"), "models", "serve", "-m", "models:/carla-policy@production"]
    command += ["--env-manager", "local", "-p", str(port)]
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"  # where it looks for uvicorn
    safe = {"MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
    log = home / "log"
    with open(log, "wb") as output:
        process = subprocess.Popen(
            command,
            env={**os.environ, **env, **safe, "PATH": path},
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    url, ends = f"http://127.0.0.1:{port}", time.monotonic() + 90
    while time.monotonic() < ends:
        try:
            if httpcore.request("GET", url + "/ping").status == 200:
                break
        except httpcore.NetworkError:
            assert process.poll() is None, log.read_text()
            time.sleep(0.2)
    else:
        raise AssertionError(log.read_text())
    yield url
    os.killpg(process.pid, 15)
    process.wait(20)


@pytest.mark.slow
def test_mlflows_own_server_and_ours_give_the_same_answers(mlflow_server: str, server: Server, engine: Engine):
    def ask(body: Any) -> httpcore.Response:
        headers = {"Host": "localhost", "Content-Type": "application/json"}
        return httpcore.request(
            "POST", mlflow_server + "/invocations", headers=headers, content=msgspec.json.encode(body)
        )

    for body in forms(engine):
        if "instances" in body:  # MLflow refuses this form for columns of arrays; ours takes it
            assert ask(body).status == 400
            continue
        theirs, ours = ask(body), server.post("/invocations", body)
        assert theirs.status == ours.status == 200, theirs.content
        assert msgspec.json.decode(theirs.content) == ours.json

    rows = rows_of(engine)
    whole = ask({"dataframe_split": {"columns": COLUMNS, "data": rows}})
    wanted = engine.act(engine.golden.observations).control
    assert actions(msgspec.json.decode(whole.content)).tobytes() == wanted.tobytes()


@pytest.mark.slow
def test_probes_answer_as_mlflows_do(mlflow_server: str, server: Server):
    for path in ("/ping", "/health", "/version"):
        theirs, ours = httpcore.request("GET", mlflow_server + path), server.get(path)
        assert (ours.status, ours.body) == (theirs.status, theirs.content), path
