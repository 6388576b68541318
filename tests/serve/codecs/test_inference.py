"""/v2, the Open Inference Protocol: by tritonclient, and by requests that are wrong."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import tritonclient.http as triton
import tritonclient.http.aio as triton_aio
from conftest import servers
from hypothesis import given, settings
from hypothesis import strategies as st
from tests_support import Server
from tritonclient.utils import InferenceServerException

from carla_mlflow import Engine
from carla_mlflow.errors import SpecError
from serve.codecs.inference import InferenceCodec
from serve.errors import ApiError

NAME = "racetrack-policy"
OUTPUTS = ("throttle", "brake", "steer", "raw", "distribution.mean", "distribution.std")


@pytest.fixture(scope="module")
def engine(example: Path) -> Engine:
    return Engine.open(example, device="cpu")


@pytest.fixture(scope="module", params=["loop", "gthread"])
def any_server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, example: Path
) -> Iterator[Server]:
    with servers(tmp_path_factory) as start:
        running = start("--model", str(example), "--worker-class", request.param)
        running.wait_ready()
        yield running


def inputs(module: Any, observations: dict[str, np.ndarray], binary: bool) -> list[Any]:
    found = []
    for name, array in observations.items():
        found.append(module.InferInput(name, list(array.shape), "FP32"))
        found[-1].set_data_from_numpy(array, binary_data=binary)
    return found


def expected(engine: Engine, observations: dict[str, np.ndarray], **options: Any) -> dict[str, np.ndarray]:
    actions = engine.act(observations, **options)
    columns = dict(zip(("throttle", "brake", "steer"), actions.control.T, strict=True))
    return columns | {"raw": actions.raw} | {f"distribution.{k}": v for k, v in actions.distribution.items()}


@pytest.mark.parametrize("binary_in", [True, False])
@pytest.mark.parametrize("binary_out", [True, False])
def test_tritonclient_gets_the_engines_bits(any_server: Server, engine: Engine, binary_in: bool, binary_out: bool):
    observations = engine.golden.observations
    wanted = expected(engine, observations)
    with triton.InferenceServerClient(any_server.url.removeprefix("http://")) as client:
        outputs = [triton.InferRequestedOutput(name, binary_data=binary_out) for name in OUTPUTS]
        result = client.infer(NAME, inputs(triton, observations, binary_in), outputs=outputs, request_id="car-7")
        for name in OUTPUTS:
            assert result.as_numpy(name).astype(np.float32).tobytes() == np.ascontiguousarray(wanted[name]).tobytes()
        answer = result.get_response()
        assert (answer["id"], answer["model_version"]) == ("car-7", "0.1.0")
        assert answer["parameters"]["digest"] == engine.digest


def test_tritonclient_is_told_what_is_served(any_server: Server):
    with triton.InferenceServerClient(any_server.url.removeprefix("http://")) as client:
        assert client.is_server_live()
        assert client.is_server_ready()
        assert client.is_model_ready(NAME)
        assert client.is_model_ready(NAME, "0.1.0")
        assert not client.is_model_ready(NAME, "9.9.9")
        assert "binary_tensor_data" in client.get_server_metadata()["extensions"]
        metadata = client.get_model_metadata(NAME)
        assert [entry["name"] for entry in metadata["inputs"]] == ["speed", "steering", "sensors"]
        assert [entry["name"] for entry in metadata["outputs"]] == list(OUTPUTS)
        with pytest.raises(InferenceServerException, match="not found"):
            client.load_model(NAME)


def test_parameters_that_are_null_are_parameters_that_are_absent(any_server: Server, engine: Engine):
    inputs_ = [
        {"name": name, "shape": array[:1].shape, "datatype": "FP32", "data": array[:1].ravel().tolist()}
        for name, array in engine.golden.observations.items()
    ]
    names = ("deterministic", "seed", "budget_ms", "binary_data_output")
    answers = [
        any_server.post(f"/v2/models/{NAME}/infer", {"inputs": inputs_, "parameters": parameters})
        for parameters in ({}, dict.fromkeys(names))
    ]
    assert [answer.status for answer in answers] == [200, 200], answers
    assert answers[0].json == answers[1].json


def test_tritonclient_samples_by_seed_compresses_and_asks_many_at_once(any_server: Server, engine: Engine):
    observations = {name: array[:5] for name, array in engine.golden.observations.items()}
    wanted = expected(engine, observations, deterministic=False, seed=7)["steer"]
    with triton.InferenceServerClient(any_server.url.removeprefix("http://"), concurrency=4) as client:
        asked = inputs(triton, observations, True)
        options = {"parameters": {"deterministic": False, "seed": 7}, "request_compression_algorithm": "gzip"}
        assert client.infer(NAME, asked, **options).as_numpy("steer").tobytes() == wanted.tobytes()
        many = [client.async_infer(NAME, asked, parameters=options["parameters"]) for _ in range(20)]
        assert {one.get_result().as_numpy("steer").tobytes() for one in many} == {wanted.tobytes()}


def test_tritonclients_asyncio_client_is_answered(any_server: Server, engine: Engine):
    observations = engine.golden.observations

    async def ask() -> list[Any]:
        async with triton_aio.InferenceServerClient(any_server.url.removeprefix("http://")) as client:
            asked = [client.infer(NAME, inputs(triton_aio, observations, True)) for _ in range(20)]
            return [answer.as_numpy("steer").tobytes() for answer in await asyncio.gather(*asked)]

    assert set(asyncio.run(ask())) == {np.ascontiguousarray(expected(engine, observations)["steer"]).tobytes()}


GOOD = {
    "inputs": [
        {"name": "speed", "shape": [2], "datatype": "FP32", "data": [1, 2.5]},
        {"name": "steering", "shape": [2, 1], "datatype": "FP32", "data": [[0.1], [0.2]]},
        {"name": "sensors", "shape": [2, 12], "datatype": "FP32", "data": [0.5] * 24},
    ]
}


def changed(path: str, value: Any) -> dict[str, Any]:
    document: Any = deepcopy(GOOD)
    *parents, last = path.split(".")
    place = document
    for key in parents:
        place = place[int(key)] if key.isdigit() else place[key]
    if last.isdigit():
        place[int(last)] = value
    else:
        place[last] = value
    return document


WRONG = {
    "inputs": [],
    "inputs.0": {},
    "inputs.0.name": "radar",
    "inputs.1.name": "speed",
    "inputs.0.datatype": "FP64",
    "inputs.0.shape": [3],
    "inputs.1.shape": [2, 2],
    "inputs.2.shape": [2, 13],
    "inputs.0.shape.0": True,
    "inputs.0.shape.0 ": -1,
    "inputs.2.shape.0": 2**70,
    "inputs.0.data": [1],
    "inputs.0.data.0": "1",
    "inputs.0.data.1": None,
    "inputs.0.data.1 ": True,
    "inputs.2.data": [[0.5] * 12, [0.5] * 11],
    "inputs.0.parameters": {"binary_data_size": 8},
    "inputs.0.more": 1,
    "outputs": [],
    "outputs ": [{"name": "gear"}],
    "outputs  ": [{"name": "steer"}, {"name": "steer"}],
    "parameters": {"mode": "fast"},
    "parameters ": {"deterministic": 1},
    "parameters  ": {"seed": -1},
    "parameters   ": {"budget_ms": "1"},
    "id": 7,
    "id ": "x" * 1000,
    "more": 1,
}


@pytest.mark.parametrize("path", WRONG)
def test_what_is_wrong_is_refused_in_the_protocols_shape(any_server: Server, path: str):
    answer = any_server.post(f"/v2/models/{NAME}/infer", changed(path.strip(), WRONG[path]))
    assert answer.status in (400, 422), answer.body
    assert isinstance(answer.json["error"], str)
    assert any_server.post(f"/v2/models/{NAME}/infer", GOOD).status == 200


@pytest.mark.parametrize(
    ("path", "value", "place"),
    [
        ("inputs.0.data.1", 1e39, "observations[1].speed"),
        ("inputs.0.data.1", "1", "observations[1].speed"),
        ("inputs.0.data.1", msgspec.Raw(b"9" * 400), "observations[1].speed"),
        ("inputs.1.data.1", [None], "observations[1].steering[0]"),
        ("inputs.2.data.15", True, "observations[1].sensors[3]"),
    ],
)
def test_values_that_do_not_fit_are_422_and_name_the_row(any_server: Server, path: str, value: Any, place: str):
    answer = any_server.post(f"/v2/models/{NAME}/infer", changed(path, value))
    assert (answer.status, answer.json["code"]) == (422, "invalid_observation")
    assert answer.json["error"].startswith(f"{place}: ")


def test_a_flag_that_is_none_is_named_where_it_stands(any_server: Server):
    outputs = [{"name": "steer"}, {"name": "brake", "parameters": {"binary_data": "yes"}}]
    answer = any_server.post(f"/v2/models/{NAME}/infer", GOOD | {"outputs": outputs})
    assert answer.status == 400
    assert answer.json["error"].startswith("outputs[1].parameters.binary_data: ")


@pytest.mark.parametrize("name", ["other", "..%2f..%2fetc", "a" * 200])
def test_other_models_and_control_routes_are_not_found(any_server: Server, name: str):
    for path in (f"/v2/models/{name}", f"/v2/models/{name}/ready", "/v2/repository/index", "/v2/nothing"):
        answer = any_server.get(path)
        assert answer.status in (404, 405)
        assert isinstance(answer.json["error"], str)
    assert any_server.post(f"/v2/models/{name}/infer", GOOD).status == 404
    assert any_server.post(f"/v2/models/{NAME}/versions/9.9.9/infer", GOOD).status == 404
    assert any_server.post(f"/v2/repository/models/{name}/load", {}).status in (404, 405)
    assert any_server.post("/v2/systemsharedmemory/register", {}).status in (404, 405)


def packed(rows: int, header_bytes: int | None = None, **sizes: int) -> tuple[bytes, int]:
    widths = {"speed": 1, "steering": 1, "sensors": 12}
    entries = [
        {
            "name": name,
            "shape": [rows, width] if width > 1 else [rows],
            "datatype": "FP32",
            "parameters": {"binary_data_size": sizes.get(name, 4 * rows * width)},
        }
        for name, width in widths.items()
    ]
    head = msgspec.json.encode({"inputs": entries})
    body = head + np.full(rows * 14, 0.5, "<f4").tobytes()
    return body, len(head) if header_bytes is None else header_bytes


def test_bytes_that_do_not_fit_what_the_json_says_are_refused(any_server: Server):
    good, length = packed(3)
    for body, header_bytes in (
        (good[:-1], length),
        (good + b"\0", length),
        (good, length - 1),
        (good, 10**11),
        (good, 0),
        packed(3, speed=8),
        packed(3, speed=-12),
        packed(3, speed=2**80),
    ):
        headers = {"Inference-Header-Content-Length": str(header_bytes)}
        media_type = "application/octet-stream"
        answer = any_server.post(f"/v2/models/{NAME}/infer", body, media_type, **headers)
        assert answer.status == 400, answer.body
    assert any_server.post(f"/v2/models/{NAME}/infer", good, "application/octet-stream").status == 400
    headers = {"Inference-Header-Content-Length": str(length)}
    assert any_server.post(f"/v2/models/{NAME}/infer", good, "application/octet-stream", **headers).status == 200


@settings(max_examples=100, deadline=None)
@given(
    rows=st.integers(1, 16),
    seed=st.integers(0, 2**32),
    binary=st.sets(st.sampled_from(["speed", "steering", "sensors"])),
    nested=st.booleans(),
    padding=st.integers(0, 9),
)
def test_tensors_as_bytes_lists_or_nested_lists_are_the_same_arrays(
    engine: Engine, rows: int, seed: int, binary: set[str], nested: bool, padding: int
):
    wanted = {spec.name: spec.sample(np.random.default_rng(seed), rows) for spec in engine.specs}
    entries, tensors = [], b""
    for name, array in wanted.items():
        entry: dict[str, Any] = {"name": name, "shape": list(array.shape), "datatype": "FP32"}
        if name in binary:
            tensors += array.tobytes()
            entries.append(entry | {"parameters": {"binary_data_size": array.nbytes}})
        else:
            entries.append(entry | {"data": array.tolist() if nested else array.ravel().tolist()})
    head = msgspec.json.encode({"inputs": entries}) + b" " * padding  # bytes are aligned by chance only
    read = InferenceCodec(engine.card, engine.digest, 16).decode(head + tensors, len(head))
    assert read.count == rows
    for name, array in wanted.items():
        assert read.observations[name].dtype == array.dtype
        assert read.observations[name].tobytes() == array.tobytes()
        assert read.observations[name].shape == array.shape


@settings(max_examples=60, deadline=None)
@given(document=st.recursive(st.none() | st.booleans() | st.floats() | st.text(), st.lists), where=st.sampled_from(
    ["inputs", "outputs", "parameters", "id", "inputs.0", "inputs.0.shape", "inputs.0.data", "inputs.2.data.3"]
))  # fmt: skip
def test_whatever_json_comes_is_read_or_refused(engine: Engine, document: Any, where: str):
    codec = InferenceCodec(engine.card, engine.digest, 16)
    with contextlib.suppress(ApiError, SpecError):
        assert codec.decode(msgspec.json.encode(changed(where, document)), None).count == 2


@pytest.mark.parametrize("name", ["a~b", "a%20b", "%FF", "a%C3%A9", f"{NAME}%0A", "x" * 200, f"{NAME}/versions/1~2"])
def test_a_name_or_version_that_nobody_serves_is_refused_however_it_is_spelled(any_server: Server, name: str):
    body = {"inputs": [{"name": "speed", "shape": [1], "datatype": "FP32", "data": [1.0]}]}
    answer = any_server.post(f"/v2/models/{name}/infer", body)
    assert (answer.status, answer.json["code"]) == (404, "version_not_found")


@pytest.mark.parametrize("headers", [{"X-Request-Budget-Ms": "0"}, {"Content-Type": "text/xml"}])
@pytest.mark.parametrize("path", ["/predict", "//predict", "/%70redict", f"//v2/models/{NAME}/infer"])
def test_another_spelling_of_a_path_gets_past_no_rule(any_server: Server, path: str, headers: dict[str, str]):
    row = {"speed": 6.0, "steering": 0.1, "sensors": [0.5] * 12}
    body = msgspec.json.encode({"observations": [row]})
    answer = any_server.send("POST", path, body, {"Content-Type": "application/json", **headers})
    if "Content-Type" in headers:
        assert answer.status == 415
    else:
        assert answer.status == (400 if "infer" in path else 504)  # the other body is refused first
