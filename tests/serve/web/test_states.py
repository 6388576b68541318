"""A policy with memory over HTTP: each protocol gives a state token with each action, and takes it back."""

from __future__ import annotations

import base64
import struct
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpcore
import msgspec
import numpy as np
import pytest
import tritonclient.http as triton
from conftest import servers
from remembering_policies import local, observed, remote
from tests_support import Server

from benchmarks.policies.remembering import gru_of_images
from benchmarks.support.encoding import rows_of
from carla_mlflow import Artifact, Engine, write_artifact
from carla_mlflow.contract.control import CONTROL_NAMES
from carla_mlflow.contract.state_token import StateTokens, to_text
from training_export.export.export import export_policy

pytestmark = pytest.mark.xdist_group("states")
Start = Callable[..., Server]
KEY, OTHER_KEY = "the-key-of-the-fleet", "the-key-of-others"
INFER = "/v2/models/remembering/infer"


@pytest.fixture(scope="module")
def folder(remembering: Artifact, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_artifact(tmp_path_factory.mktemp("policy") / "remembering", remembering).path


@pytest.fixture(scope="module")
def engine(remembering: Artifact) -> Engine:
    return Engine(remembering, "cpu")


@pytest.fixture(scope="module", params=["loop", "gthread"])
def car(request: pytest.FixtureRequest, folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server, with each of the two kinds of workers."""
    with servers(tmp_path_factory) as start:
        running = start("--model", str(folder), "--worker-class", request.param, "--max-batch", "256")
        running.wait_ready()
        yield running


def predict(server: Server, rows: list[dict[str, Any]], **fields: Any) -> list[dict[str, Any]]:
    answer = server.post("/predict", {"observations": rows, **fields})
    assert answer.status == 200, answer.body
    return answer.json["actions"]


def score(server: Server, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    answer = server.post("/invocations", {"dataframe_records": rows})
    assert answer.status == 200, answer.body
    return answer.json["predictions"]


def as_columns(server: Server, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """`dataframe_split`, with the column `state` in every row or in none."""
    columns = list(rows[0])
    data = [[row[name] for name in columns] for row in rows]
    answer = server.post("/invocations", {"dataframe_split": {"columns": columns, "data": data}})
    return answer.json["predictions"]


def tensors(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    speed, beams = [row["speed"] for row in rows], [row["beams"] for row in rows]
    return [
        {"name": "speed", "shape": [len(rows)], "datatype": "FP32", "data": speed},
        {"name": "beams", "shape": [len(rows), 12], "datatype": "FP32", "data": beams},
    ]


def by_name(outputs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    data = {output["name"]: output["data"] for output in outputs}
    return [dict(zip(data, values, strict=True)) for values in zip(*data.values(), strict=True)]


def infer(server: Server, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Tensors in the JSON; the empty text stands for a row that begins."""
    states = [row.get("state", "") for row in rows]
    tensor = {"name": "state", "shape": [len(rows)], "datatype": "BYTES", "data": states}
    answer = server.post(INFER, {"inputs": [*tensors(rows), *([tensor] if any(states) else [])]})
    assert answer.status == 200, answer.body
    return by_name(answer.json["outputs"])


def infer_bytes(server: Server, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Tensors after the JSON, both ways: each element is a length and as many bytes."""
    tokens = [base64.b64decode(row.get("state", "")) for row in rows]
    data = b"".join(struct.pack("<I", len(token)) + token for token in tokens)
    size = {"binary_data_size": len(data)}
    state = {"name": "state", "shape": [len(rows), 1], "datatype": "BYTES", "parameters": size}
    head = {"inputs": [state, *tensors(rows)], "parameters": {"binary_data_output": True}}
    text = msgspec.json.encode(head)
    answer = server.post(
        INFER, text + data, "application/octet-stream", **{"Inference-Header-Content-Length": str(len(text))}
    )
    assert answer.status == 200, answer.body
    split = int(answer.headers["inference-header-content-length"])
    outputs, at = msgspec.json.decode(answer.body[:split])["outputs"], split
    for output in outputs:
        part = answer.body[at : at + output["parameters"]["binary_data_size"]]
        at += len(part)
        if output["datatype"] == "FP32":
            output["data"] = np.frombuffer(part, "<f4").tolist()
        else:
            assert (output["name"], output["datatype"], output["shape"]) == ("state", "BYTES", [len(rows)])
            output["data"] = []
            while part:
                [length] = struct.unpack_from("<I", part)
                output["data"].append(base64.b64encode(part[4 : 4 + length]).decode())
                part = part[4 + length :]
    assert at == len(answer.body)
    return by_name(outputs)


@pytest.mark.parametrize("protocol", [predict, score, as_columns, infer, infer_bytes])
def test_a_rollout_over_http_has_the_bits_of_the_engine(car: Server, engine: Engine, protocol):
    steps = observed(engine.specs, 3, 8)
    answered = remote(lambda rows: protocol(car, rows), steps, CONTROL_NAMES)
    assert answered.tobytes() == local(engine, steps).tobytes()


def test_a_rollout_has_the_same_bits_alone_and_in_a_batch_with_rows_that_begin(car: Server, engine: Engine):
    steps = observed(engine.specs, 16, 6)
    whole = local(engine, steps)
    alone = remote(lambda rows: predict(car, rows), [{k: v[3:4] for k, v in s.items()} for s in steps], CONTROL_NAMES)
    assert alone.tobytes() == np.ascontiguousarray(whole[:, 3:4]).tobytes()

    def among_beginners(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        beginning = [{k: v for k, v in row.items() if k != "state"} | {"state": None} for row in rows]
        return predict(car, [*beginning, *rows])[len(rows) :]

    assert remote(among_beginners, steps, CONTROL_NAMES).tobytes() == whole.tobytes()


def test_requests_that_come_together_share_a_forward_and_one_bad_state_harms_no_other(car: Server, engine: Engine):
    steps = observed(engine.specs, 8, 5)
    expected = local(engine, steps)
    with httpcore.ConnectionPool(max_connections=32) as pool, ThreadPoolExecutor(12) as threads:
        own = Server(car.process, car.url, car.log, pool)

        def drive(episode: int) -> np.ndarray:
            mine = [{name: values[episode : episode + 1] for name, values in step.items()} for step in steps]
            return remote(lambda rows: predict(own, rows), mine, CONTROL_NAMES)

        def disturb(_: int) -> int:
            [row] = rows_of({name: values[:1] for name, values in steps[0].items()})
            return own.post("/predict", {"observations": [{**row, "state": "AAAA"}]}).status

        refused = [threads.submit(disturb, n) for n in range(40)]
        driven = list(threads.map(drive, range(8)))
    assert {each.result() for each in refused} == {422}
    assert np.concatenate(driven, axis=1).tobytes() == expected.tobytes()


def test_a_large_batch_is_answered_chunk_by_chunk_with_the_same_bits(car: Server, engine: Engine):
    steps = observed(engine.specs, 256, 3)  # as many rows as the server takes, each with its state
    answered = remote(lambda rows: predict(car, rows), steps, CONTROL_NAMES)
    assert answered.tobytes() == local(engine, steps).tobytes()
    assert remote(lambda rows: score(car, rows), steps, CONTROL_NAMES).tobytes() == answered.tobytes()


def test_a_sample_depends_on_the_state_too_and_is_the_engines(car: Server, engine: Engine):
    [step] = observed(engine.specs, 1, 1)
    [row] = rows_of(step)
    [first] = predict(car, [row])
    seeded = {"deterministic": False, "seed": 5}
    [begun], [gone_on] = predict(car, [row], **seeded), predict(car, [{**row, "state": first["state"]}], **seeded)
    assert begun != gone_on
    expected = engine.act(step, deterministic=False, seed=5, state=engine.act(step).state)
    assert np.array([gone_on[name] for name in CONTROL_NAMES], np.float32).tobytes() == expected.control[0].tobytes()


@pytest.mark.parametrize(
    ("state", "problem"),
    [
        ("AAAA", "is not a state token"),
        (7, "expected base64"),
        ("not base64", "expected base64"),
        ([1, 2], "expected base64"),
        ("AR==", "expected base64"),  # another spelling of AQ==
    ],
)
def test_a_damaged_token_is_refused_by_its_row_in_every_protocol(car: Server, engine: Engine, state, problem):
    rows = rows_of(observed(engine.specs, 3, 1)[0])
    rows[2]["state"] = state
    answer = car.post("/predict", {"observations": rows})
    assert (answer.status, answer.json["error"]["code"]) == (422, "invalid_observation")
    assert answer.json["error"]["field"] == "observations[2].state"
    assert problem in answer.json["error"]["message"]
    answer = car.post("/invocations", {"inputs": rows})
    assert (answer.status, answer.json["error_code"]) == (422, "INVALID_PARAMETER_VALUE")
    assert answer.json["message"].startswith("observations[2].state: ")
    tensor = {"name": "state", "shape": [3], "datatype": "BYTES", "data": ["", "", state]}
    answer = car.post(INFER, {"inputs": [*tensors(rows), tensor]})
    assert answer.status == 422
    assert answer.json["error"].startswith("observations[2].state: ")


@pytest.mark.parametrize("size", [1, 65_536])
def test_a_token_of_a_version_with_smaller_or_larger_states_is_409_in_every_protocol(car: Server, engine: Engine, size):
    rows = rows_of(observed(engine.specs, 2, 1)[0])
    other = StateTokens("sha256:" + "5" * 64, {"h": (size,)})
    [token] = other.encode({"h": np.zeros((1, size), np.float32)}, np.ones(1, np.uint32))
    rows[1]["state"] = text = to_text(token)
    answer = car.post("/predict", {"observations": rows})
    assert (answer.status, answer.json["error"]["code"]) == (409, "state_of_another_version")
    assert answer.json["error"]["field"] == "observations[1].state"
    answer = car.post("/invocations", {"dataframe_records": rows})
    assert (answer.status, answer.json["error_code"]) == (409, "RESOURCE_CONFLICT")
    tensor = {"name": "state", "shape": [2], "datatype": "BYTES", "data": ["", text]}
    answer = car.post(INFER, {"inputs": [*tensors(rows), tensor]})
    assert (answer.status, answer.json["code"]) == (409, "state_of_another_version")
    data = bytes(4) + struct.pack("<I", len(token)) + token
    tensor = {"name": "state", "shape": [2], "datatype": "BYTES", "parameters": {"binary_data_size": len(data)}}
    head = msgspec.json.encode({"inputs": [*tensors(rows), tensor]})
    length = {"Inference-Header-Content-Length": str(len(head))}
    answer = car.post(INFER, head + data, "application/octet-stream", **length)
    assert (answer.status, answer.json["code"]) == (409, "state_of_another_version")


def test_a_tensor_of_states_that_does_not_fit_its_rows_is_refused(car: Server, engine: Engine):
    inputs = tensors(rows_of(observed(engine.specs, 2, 1)[0]))

    def ask(data: bytes, **changed: Any) -> tuple[int, str]:
        size = {"binary_data_size": len(data)}
        state = {"name": "state", "shape": [2], "datatype": "BYTES", "parameters": size, **changed}
        text = msgspec.json.encode({"inputs": [*inputs, state]})
        length = {"Inference-Header-Content-Length": str(len(text))}
        answer = car.post(INFER, text + data, "application/octet-stream", **length)
        return answer.status, answer.json.get("error", "")

    assert ask(bytes(8))[0] == 200
    assert ask(b"")[0] == 200  # no bytes at all begin every row
    assert ask(bytes(4)) == (422, "observations[1].state: the tensor ends before this row")
    assert ask(bytes(4) + b"\x09\x00\x00\x00abc")[1].startswith("observations[1].state: is longer than what is left")
    assert ask(bytes(11))[1].startswith("observations.state: the tensor is longer than its 2 rows")
    assert ask(bytes(10_000))[0] == 422
    assert ask(bytes(8), datatype="FP32")[0] == 400
    assert ask(bytes(8), shape=[3])[0] == 400
    assert ask(bytes(8), shape=[2, 2])[0] == 400


def test_null_in_a_tensor_of_states_begins_a_row_and_a_column_may_be_nested(car: Server, engine: Engine):
    rows = rows_of(observed(engine.specs, 2, 1)[0])
    begun = infer(car, rows)
    texts = [action["state"] for action in begun]

    def ask(data: list[Any], shape: list[int]) -> list[dict[str, Any]]:
        tensor = {"name": "state", "shape": shape, "datatype": "BYTES", "data": data}
        answer = car.post(INFER, {"inputs": [*tensors(rows), tensor]})
        assert answer.status == 200, answer.body
        return by_name(answer.json["outputs"])

    assert ask([None, None], [2]) == ask([[None], [""]], [2, 1]) == begun
    gone_on = infer(car, [row | {"state": text} for row, text in zip(rows, texts, strict=True)])
    assert ask(texts, [2]) == ask([[text] for text in texts], [2, 1]) == gone_on != begun
    assert ask([None, texts[1]], [2]) == [begun[0], gone_on[1]]
    refused = car.post(
        INFER, {"inputs": [*tensors(rows), {"name": "state", "shape": [2], "datatype": "BYTES", "data": [None, [[]]]}]}
    )
    assert refused.json["error"].startswith("observations[1].state: is not a state token")


@pytest.mark.parametrize("binary", [True, False])
def test_tritonclient_carries_states_unchanged(car: Server, engine: Engine, binary: bool):
    steps = observed(engine.specs, 2, 4)
    states, found = None, []
    with triton.InferenceServerClient(car.url.removeprefix("http://")) as client:
        for step in steps:
            inputs = [triton.InferInput(name, list(values.shape), "FP32") for name, values in step.items()]
            for given, values in zip(inputs, step.values(), strict=True):
                given.set_data_from_numpy(values, binary_data=binary)
            if states is not None:
                inputs.append(triton.InferInput("state", [2], "BYTES").set_data_from_numpy(states, binary_data=binary))
            outputs = [triton.InferRequestedOutput(name, binary_data=binary) for name in (*CONTROL_NAMES, "state")]
            answer = client.infer("remembering", inputs, outputs=outputs)
            states = np.array(answer.as_numpy("state"), dtype=object)
            found.append(np.stack([answer.as_numpy(name) for name in CONTROL_NAMES], axis=1))
    assert np.stack(found).astype(np.float32).tobytes() == local(engine, steps).tobytes()


def test_only_the_outputs_that_are_asked_for_are_answered(car: Server, engine: Engine):
    inputs = tensors(rows_of(observed(engine.specs, 1, 1)[0]))
    answer = car.post(INFER, {"inputs": inputs, "outputs": [{"name": "steer"}]}).json
    assert [output["name"] for output in answer["outputs"]] == ["steer"]
    answer = car.post(INFER, {"inputs": inputs, "outputs": [{"name": "state"}]}).json
    assert [output["name"] for output in answer["outputs"]] == ["state"]
    metadata = car.get("/v2/models/remembering").json
    described = {"name": "state", "datatype": "BYTES", "shape": [-1]}
    assert described in metadata["inputs"]
    assert described in metadata["outputs"]


def test_the_document_describes_states_and_its_examples_are_answered(car: Server):
    document = car.get("/openapi.json").json
    schemas = document["components"]["schemas"]
    assert schemas["Observation"]["properties"]["state"]["contentEncoding"] == "base64"
    assert "state" in schemas["Answered"]["required"]
    assert "state" not in schemas["Action"]["properties"]
    refused = document["paths"]["/predict"]["post"]["responses"]["409"]["description"]
    assert refused == "episode_of_another_version, state_of_another_key, state_of_another_version"
    assert car.post("/predict", schemas["PredictRequest"]["examples"][0]).status == 200
    assert car.post(INFER, schemas["InferRequest"]["examples"][0]).status == 200


def test_servers_with_one_key_share_episodes_and_others_refuse_them(
    start_server: Start, folder: Path, engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def start(**variables: str) -> Server:
        with monkeypatch.context() as patched:
            for name, value in variables.items():
                patched.setenv(name, value)
            return start_server("--model", str(folder))

    (tmp_path / "key").write_text(f"{KEY}\n")
    by_file, same = start(POLICY_STATE_KEY_FILE=str(tmp_path / "key")), start(POLICY_STATE_KEY=f" {KEY} ")
    other, without = start(POLICY_STATE_KEY=OTHER_KEY), start()
    for server in (by_file, same, other, without):
        server.wait_ready()
    steps = observed(engine.specs, 1, 6)
    turns = iter([by_file, same] * 3)
    assert remote(lambda rows: predict(next(turns), rows), steps, CONTROL_NAMES).tobytes() == (
        local(engine, steps).tobytes()
    )
    [row] = rows_of(steps[0])
    [action] = predict(same, [row])
    for server in (other, without):
        answer = server.post("/predict", {"observations": [row, {**row, "state": action["state"]}]})
        assert (answer.status, answer.json["error"]["code"]) == (409, "state_of_another_key")
        assert answer.json["error"]["field"] == "observations[1].state"
    for server in (by_file, same, other):
        secret = (OTHER_KEY if server is other else KEY).encode()
        assert secret not in server.get("/metadata").body
        assert secret not in server.log.read_bytes()
        assert b"anybody can forge" not in server.log.read_bytes()
    assert without.log.read_bytes().count(b"anybody can forge") == 1


def test_states_of_images_are_text_or_numbers_and_zeros_begin_an_episode(start_server: Start, tmp_path: Path):
    artifact = export_policy(gru_of_images(), "seeing", "1.0.0", "a GRU").artifact
    engine = Engine(artifact, "cpu")
    server = start_server("--model", str(write_artifact(tmp_path / "seeing", artifact).path))
    server.wait_ready()
    steps = observed(engine.specs, 2, 4)
    expected = local(engine, steps)
    length = 1 + 4 + 32 + 4 + 4 * 64 + 16

    def numbers(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """As a signature of tensors takes it: uint8 (B, N)."""
        given = [
            {**row, "state": list(base64.b64decode(row["state"])) if "state" in row else [0] * length} for row in rows
        ]
        columns = {name: [row[name] for row in given] for name in given[0]}
        answer = server.post("/invocations", {"inputs": columns})
        assert answer.status == 200, answer.body
        return answer.json["predictions"]

    assert remote(numbers, steps, CONTROL_NAMES).tobytes() == expected.tobytes()
    assert remote(lambda rows: score(server, rows), steps, CONTROL_NAMES).tobytes() == expected.tobytes()
    assert remote(lambda rows: predict(server, rows), steps, CONTROL_NAMES).tobytes() == expected.tobytes()
    schemas = server.get("/openapi.json").json["components"]["schemas"]
    assert schemas["Rows"]["items"] == {"$ref": "#/components/schemas/ScoredObservation"}
    text, listed = schemas["ScoredObservation"]["properties"]["state"]["anyOf"]
    assert text == schemas["Observation"]["properties"]["state"]
    assert (listed["minItems"], listed["maxItems"], listed["items"]["maximum"]) == (length, length, 255)
    [row, _] = rows_of(steps[0])
    answer = server.post("/invocations", {"inputs": [{**row, "state": [0, 256]}]})
    assert answer.status == 422
    assert answer.json["message"].startswith("observations[0].state: expected whole numbers from 0 to 255")
