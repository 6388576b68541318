"""OpenVINO, which runs model.onnx: by request only, on the CPU, in float32, and without a word to anybody."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import msgspec
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from carla_mlflow import Artifact, Engine, open_artifact, select_device
from carla_mlflow.artifact.artifact import seal
from carla_mlflow.backends.backend import aligned
from carla_mlflow.backends.loading import runnable_backends
from carla_mlflow.backends.openvino_model import OpenVinoBackend
from carla_mlflow.errors import ArtifactError, CardError, DeviceError
from carla_mlflow.flavor.model import requirements_of
from carla_mlflow.inference.backend_choice import load_fastest

QUIET = """
import sys
from carla_mlflow import Engine
Engine.open(sys.argv[1], backend="openvino").warm_up()
unwanted = ("openvino.tools", "openvino_telemetry", "torch", "onnxruntime")
wrong = [name for name in sys.modules if name.startswith(unwanted)]
assert not wrong, wrong
"""
LACKING = """
import sys
sys.modules["openvino"] = None
from carla_mlflow import Engine
Engine.open(sys.argv[1], backend="openvino")
"""
SHORT = """
import resource, sys
import numpy as np
from carla_mlflow.backends.openvino_model import OpenVinoBackend
backend = OpenVinoBackend(open(sys.argv[1], "rb").read(), ("x",), ("raw",))
few, many = np.ones((3, 3), np.float32), np.ones((4096, 3), np.float32)
print(backend([few])[0].tolist(), backend.bind([few]).run()[0].tolist())
resource.setrlimit(resource.RLIMIT_AS, (8 << 30, 8 << 30))
for call in (backend, backend.bind):
    try:
        call([many])
    except MemoryError as error:
        print("MemoryError", error)
print(backend([few])[0].tolist())
"""


@pytest.fixture(scope="module")
def asked_for(example: Path) -> Artifact:
    """The example, with a card that names OpenVINO."""
    artifact = open_artifact(example)
    files = {name: artifact.files[name] for name in artifact.card.files}
    return seal(msgspec.structs.replace(artifact.card, backend="openvino"), files)


def run(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True)


def graph(nodes: list[onnx.NodeProto], inputs: dict[str, list], constants: dict[str, list[int]]) -> bytes:
    """A model that returns `raw`, (N, 3)."""
    taken = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in inputs.items()]
    given = [helper.make_tensor_value_info("raw", TensorProto.FLOAT, ["N", 3])]
    held = [helper.make_tensor(name, TensorProto.INT64, [len(values)], values) for name, values in constants.items()]
    made = helper.make_model(
        helper.make_graph(nodes, "g", taken, given, held), opset_imports=[helper.make_opsetid("", 18)]
    )
    written: bytes = made.SerializeToString()
    return written


RELU = helper.make_node("Relu", ["x"], ["raw"])


def test_openvinos_tools_which_report_to_their_maker_are_not_imported_and_neither_is_torch(example: Path):
    done = run(QUIET, str(example))
    assert done.returncode == 0, done.stderr


def test_it_computes_in_float32_where_it_would_choose_bfloat16(example: Path):
    engine = Engine.open(example, device="cpu", backend="openvino")
    compiled = engine.backend_call._any_shape.get_compiled_model()
    assert compiled.get_property("INFERENCE_PRECISION_HINT").to_string() == "f32"
    assert [compiled.get_property(name) for name in ("INFERENCE_NUM_THREADS", "NUM_STREAMS")] == [1, 1]
    assert engine.parity_difference < 5e-6


def test_a_gpu_is_refused_and_auto_means_the_cpu(example: Path):
    assert select_device("auto", "openvino").name == "cpu"
    for device in ("cuda", "cuda:1"):
        with pytest.raises(DeviceError, match="the backend openvino runs on CPUs alone"):
            Engine.open(example, device=device, backend="openvino")


def test_a_card_may_name_it_and_is_then_of_format_2_and_reads_the_graph_in_onnx(asked_for: Artifact, example: Path):
    assert asked_for.card.format == 2
    assert asked_for.backends == ("torchscript", "onnx", "openvino")
    assert asked_for.file_of_backend("openvino") == asked_for.files["model.onnx"]
    assert open_artifact(example).card.format == 1
    engine, named = Engine(asked_for, "cpu"), Engine.open(example, device="cpu", backend="openvino")
    golden = engine.golden.observations
    assert engine.backend == "openvino"
    assert engine.act(golden).raw.tobytes() == named.act(golden).raw.tobytes()


def test_a_card_that_names_it_needs_a_graph_in_onnx(asked_for: Artifact):
    files = {name: data for name, data in asked_for.files.items() if name in asked_for.card.files}
    del files["model.onnx"]
    listed = {name: file for name, file in asked_for.card.files.items() if name in files}
    with pytest.raises(CardError, match="backend openvino: no file of the backend onnx is listed"):
        seal(msgspec.structs.replace(asked_for.card, files=listed), files)


def test_no_measurement_chooses_it_where_the_card_does_not_name_it(asked_for: Artifact, example: Path):
    artifact = open_artifact(example)
    assert "openvino" not in load_fastest(artifact, "cpu")[1]
    assert runnable_backends(artifact) == ("torchscript", "onnx", "openvino")
    assert "openvino" in load_fastest(asked_for, "cpu")[1]


def test_a_logged_model_of_such_a_card_requires_it_and_no_torch(asked_for: Artifact):
    names = {line.partition("==")[0] for line in requirements_of(asked_for)}
    assert {"openvino", "onnx"} < names
    assert not names & {"torch", "onnxruntime"}


def test_who_lacks_it_is_told_what_to_install(example: Path):
    done = run(LACKING, str(example))
    assert "the backend openvino needs openvino: pip install 'carla-mlflow[openvino]'" in done.stderr


@pytest.mark.parametrize(("inputs", "outputs"), [(("y",), ("raw",)), (("x",), ("action",)), (("x",), ("raw", "std"))])
def test_a_graph_with_other_names_than_the_cards_is_refused(inputs: tuple[str, ...], outputs: tuple[str, ...]):
    with pytest.raises(ArtifactError, match=r"model\.onnx: takes x and gives raw, but the card says"):
        OpenVinoBackend(graph([RELU], {"x": ["N", 3]}, {}), inputs, outputs)


def test_a_graph_that_it_can_not_read_is_refused_in_one_line():
    unknown = helper.make_node("StringNormalizer", ["x"], ["raw"])
    with pytest.raises(ArtifactError, match=r"model\.onnx: not a policy that OpenVINO runs: [^\n]*StringNormalizer"):
        OpenVinoBackend(graph([unknown], {"x": ["N", 3]}, {}), ("x",), ("raw",))


def test_an_input_that_no_output_depends_on_is_taken_and_inputs_stay_as_they_were():
    backend = OpenVinoBackend(graph([RELU], {"unused": ["N"], "x": ["N", 3]}, {}), ("unused", "x"), ("raw",))
    unused, x, other = aligned(4, "float32"), aligned(12, "float32").reshape(4, 3), np.full((4, 3), 5.0, np.float32)
    x[:] = np.arange(12).reshape(4, 3) - 6
    before = x.tobytes()
    bound = backend.bind([unused, x])
    [raw] = bound.run()
    assert raw.tobytes() == np.maximum(x, 0).tobytes() == backend([unused, x])[0].tobytes()
    assert x.tobytes() == before
    bound.replace(0, np.zeros(4, np.float32))
    bound.replace(1, other)
    assert bound.run()[0].tobytes() == other.tobytes()


def test_memory_that_runs_out_is_told_although_openvino_returns_the_answer_of_the_run_before(tmp_path: Path):
    nodes = [
        helper.make_node("Unsqueeze", ["x", "axis"], ["lifted"]),
        helper.make_node("Tile", ["lifted", "often"], ["many"]),
        helper.make_node("ReduceMax", ["many", "axis"], ["raw"], keepdims=0),
    ]
    model = tmp_path / "model.onnx"
    model.write_bytes(graph(nodes, {"x": ["N", 3]}, {"axis": [1], "often": [1, 1_000_000, 1]}))  # 12 MB a row
    done = run(SHORT, str(model))
    ones = [[1.0, 1.0, 1.0]] * 3
    first, *errors, last = done.stdout.splitlines() or [done.stderr]
    assert (first, last) == (f"{ones} {ones}", str(ones)), done.stderr
    assert [line.partition(" ")[0] for line in errors] == ["MemoryError", "MemoryError"]
