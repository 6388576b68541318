"""Which backend a server runs, what it imports for it, and policies with images or preprocessors beside the graph."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path

import httpcore
import mlflow
import msgspec
import numpy as np
import psutil
import pytest
from tests_support import Server, run_command

from benchmarks.policies.architectures import ARCHITECTURES
from benchmarks.policies.networks import small_view
from benchmarks.support.connection import Connection
from benchmarks.support.encoding import from_json, predict_request
from carla_mlflow import Engine, write_artifact
from carla_mlflow.flavor.model import log_policy
from carla_mlflow.flavor.runs import logging_run
from training_export.export.export import export_policy


def observation(example: Path) -> dict:
    return {"observations": [{n: a[0].tolist() for n, a in Engine.open(example).golden.observations.items()}]}


LIBRARIES = {"onnx": "onnxruntime", "openvino": "libopenvino", "torchscript": "libtorch"}


def answers_under_load(server: Server, golden: dict[str, np.ndarray], batches: list[np.ndarray]) -> list[bytes]:
    """The actions for rows of the golden observations, from 16 connections at once, batch by batch on each."""
    found: list[bytes] = []
    with contextlib.ExitStack() as opened:
        port = int(server.url.rpartition(":")[2])
        connections = [opened.enter_context(Connection(port)) for _ in range(16)]
        for start in range(0, len(batches), 16):
            asked = list(zip(connections, batches[start : start + 16], strict=False))
            for connection, rows in asked:
                connection.send(predict_request({name: array[rows] for name, array in golden.items()}))
            found += [from_json(connection.receive().body).tobytes() for connection, _ in asked]
    return found


@pytest.mark.parametrize("backend", LIBRARIES)
def test_a_row_has_the_same_bits_alone_in_any_batch_under_load_and_in_every_worker_and_only_its_backend_is_there(
    start_server: Callable[..., Server], example: Path, backend: str
):
    engine = Engine.open(example, device="cpu", backend=backend)
    golden, rng = engine.golden.observations, np.random.default_rng(0)
    alone = [engine.act({name: array[[row]] for name, array in golden.items()}).control for row in range(64)]
    batches = [rng.integers(0, 64, rows) for rows in rng.choice([1, 1, 3, 8, 50], 320)]
    server = start_server("--model", str(example), "--backend", backend, "--workers", "2")
    server.wait_ready()
    wanted = [np.concatenate([alone[row] for row in rows]).tobytes() for rows in batches]
    assert answers_under_load(server, golden, batches) == wanted
    metadata = server.get("/metadata").json
    assert (metadata["backend"], metadata["card"]["backend"]) == (backend, "onnx")
    for worker in psutil.Process(server.process.pid).children():
        mapped = "\n".join(Path(m.path).name for m in worker.memory_maps())
        assert {name for name, library in LIBRARIES.items() if library in mapped} == {backend}


def test_all_workers_of_a_server_run_the_backend_that_auto_chose_once(
    start_server: Callable[..., Server], example: Path
):
    server = start_server("--model", str(example), "--backend", "auto", "--workers", "3")
    server.wait_ready()
    assert set(server.get("/metadata").json["backend_figures"]) == {"torchscript", "onnx"}
    told = []
    for _ in range(30):  # each on a connection of its own, so that another worker may answer
        with httpcore.ConnectionPool() as pool:
            told.append(msgspec.json.decode(pool.request("GET", f"{server.url}/metadata").content))
    assert len({metadata["backend"] for metadata in told if "backend" in metadata}) == 1
    assert len({str(metadata["backend_figures"]) for metadata in told if "backend" in metadata}) == 1


def test_a_server_is_said_to_be_unpinned_however_little_it_logs(start_server: Callable[..., Server], example: Path):
    server = start_server("--model", str(example), "--log-level", "error")
    server.wait_ready()
    assert "unpinned: no --digest was given" in server.log.read_text()


@pytest.mark.parametrize("types", ["Clipper", "my pkg.Clipper", "my_pkg.*", "a.b;c.d"])
def test_a_type_that_can_not_be_one_is_a_usage_error(example: Path, types: str):
    done = run_command("carla-serve", "--model", str(example), "--trust-types", types)
    assert done.code == 2
    assert "trust_types" in done.err


def test_the_same_question_again_is_answered_from_memory(start_server: Callable[..., Server], example: Path):
    server = start_server("--model", str(example), "--result-cache", "100")
    server.wait_ready()
    answers = [server.post("/predict", observation(example)).json["actions"] for _ in range(3)]
    assert answers[0] == answers[1] == answers[2]
    assert server.get("/metadata").json["result_cache"] == {"hits": 2, "misses": 1}


@pytest.mark.filterwarnings("ignore")  # MLflow's own
def test_a_policy_with_images_gives_the_same_bits_everywhere(
    start_server: Callable[..., Server], mlflow_home: Path, tmp_path: Path
):
    artifact = write_artifact(tmp_path / "view", export_policy(small_view(), "view", "1.0.0", "").artifact)
    engine = Engine(artifact, "cpu")
    golden = engine.golden.observations
    expected = engine.act(golden).control
    with logging_run(name="view"):
        uri = log_policy(artifact)
    model = mlflow.pyfunc.load_model(uri)
    assert model.predict(golden).to_numpy().tobytes() == np.ascontiguousarray(expected).tobytes()
    server = start_server("--model", str(tmp_path / "view"))
    server.wait_ready()
    rows = [{name: array[row].tolist() for name, array in golden.items()} for row in range(4)]
    actions = server.post("/predict", {"observations": rows}).json["actions"]
    served = np.array([list(action.values()) for action in actions], dtype=np.float32)
    assert served.tobytes() == np.ascontiguousarray(expected[:4]).tobytes()


def test_a_preprocessor_outside_the_graph_is_run_by_the_server(start_server: Callable[..., Server], tmp_path: Path):
    trained = ARCHITECTURES["polynomial features outside the graph"]()
    artifact = write_artifact(tmp_path / "outside", export_policy(trained, "outside", "1.0.0", "").artifact)
    server = start_server("--model", str(tmp_path / "outside"), "--digest", artifact.digest)
    server.wait_ready()
    golden = Engine(artifact, "cpu").golden
    row = {name: array[0].tolist() for name, array in golden.observations.items()}
    action = server.post("/predict", {"observations": [row]}).json["actions"][0]
    np.testing.assert_allclose(list(action.values()), golden.action[0], rtol=1e-5, atol=2e-6)


def test_an_unknown_backend_is_a_usage_error(example: Path):
    done = run_command("carla-serve", "--model", str(example), "--backend", "fast")
    assert done.code == 2
    assert "expected card, torchscript, onnx, openvino or auto" in done.err
