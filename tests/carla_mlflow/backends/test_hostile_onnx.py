"""ONNX that would do more than compute, or never end: refused in its own words, before ONNX Runtime sees it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from forging import with_files
from onnx import TensorProto, helper

from carla_mlflow import Artifact, Engine, open_artifact
from carla_mlflow.backends.onnx_checks import checked_model
from carla_mlflow.errors import ArtifactError


@pytest.fixture(scope="module")
def artifact(example: Path) -> Artifact:
    return open_artifact(example)


def external_tensor(model: onnx.ModelProto, canary: Path) -> None:
    weights = model.graph.initializer[0]
    weights.ClearField("raw_data")
    weights.data_location = TensorProto.EXTERNAL
    weights.external_data.add(key="location", value=str(canary))


def external_attribute(model: onnx.ModelProto, canary: Path) -> None:
    tensor = TensorProto(name="hidden", data_type=TensorProto.FLOAT, dims=[1])
    tensor.external_data.add(key="location", value=str(canary))
    model.graph.node.append(helper.make_node("Constant", [], ["hidden"], value=tensor))


def external_sparse(model: onnx.ModelProto, canary: Path) -> None:
    sparse = model.graph.sparse_initializer.add()
    sparse.values.name = "sparse"
    sparse.values.external_data.add(key="location", value=str(canary))


def external_in_a_branch(model: onnx.ModelProto, canary: Path) -> None:
    tensor = TensorProto(name="hidden", data_type=TensorProto.FLOAT, dims=[1])
    tensor.external_data.add(key="location", value=str(canary))
    branch = helper.make_graph([helper.make_node("Constant", [], ["x"], value=tensor)], "b", [], [])
    model.graph.node.append(helper.make_node("If", ["condition"], ["y"], then_branch=branch, else_branch=branch))


@pytest.mark.parametrize(
    "hide", [external_tensor, external_attribute, external_sparse, external_in_a_branch], ids=lambda f: f.__name__
)
def test_onnx_with_external_data_is_refused_wherever_it_hides(artifact: Artifact, tmp_path: Path, hide: Callable):
    canary = tmp_path / "canary"
    canary.write_bytes(b"secret" * 1000)
    model = onnx.load_model_from_string(artifact.files["model.onnx"])
    hide(model, canary)
    with pytest.raises(ArtifactError, match=r"model\.onnx: the tensor .* lies in another file \(external data\)"):
        Engine(with_files(artifact, model_onnx=model.SerializeToString()), "cpu", "onnx")


@pytest.mark.parametrize(
    ("domain", "kind", "complaint"),
    [
        ("com.example", "Shell", "com.example.Shell"),
        ("", "RandomNormal", "RandomNormal"),
        ("com.microsoft", "Gelu", "com.microsoft.Gelu"),
    ],
)
def test_onnx_with_operators_outside_the_standard_or_chance_is_refused(artifact: Artifact, domain, kind, complaint):
    model = onnx.load_model_from_string(artifact.files["model.onnx"])
    model.graph.node.append(helper.make_node(kind, [], ["extra"], domain=domain))
    with pytest.raises(ArtifactError, match=rf"uses operators that a policy may not use: {complaint}"):
        Engine(with_files(artifact, model_onnx=model.SerializeToString()), "cpu", "onnx")


def looping(*inner: onnx.NodeProto, trips: str = "many") -> onnx.NodeProto:
    condition = helper.make_tensor_value_info("condition", TensorProto.BOOL, [])
    round_ = helper.make_tensor_value_info("round", TensorProto.INT64, [])
    body = helper.make_graph(list(inner), "body", [round_, condition], [condition])
    body.node.append(helper.make_node("Constant", [], ["unused"], value=onnx.numpy_helper.from_array(np.int64(1))))
    return helper.make_node("Loop", [trips, "", ""], [], body=body)


def scanning(*inner: onnx.NodeProto) -> onnx.NodeProto:
    row = helper.make_tensor_value_info("row", TensorProto.FLOAT, [2])
    body = helper.make_graph(list(inner), "body", [row], [row])
    return helper.make_node("Scan", ["raw"], ["again"], body=body, num_scan_inputs=1)


def branching(*inner: onnx.NodeProto) -> onnx.NodeProto:
    branch = helper.make_graph(list(inner), "branch", [], [])
    return helper.make_node("If", ["condition"], [], then_branch=branch, else_branch=branch)


@pytest.mark.parametrize(
    ("node", "number", "complaint"),
    [
        (looping(), np.int64(1 << 62), "a loop that may not end"),
        (looping(looping()), np.int64(101), "a loop that may not end"),
        (looping(branching(looping(scanning(looping())))), np.int64(22), "a loop that may not end"),
        (scanning(scanning(scanning(scanning()))), np.int64(1), "a loop that may not end"),
        (looping(trips="raw"), np.int64(1), "a loop that may not end"),
        (helper.make_node("ConstantOfShape", ["many"], ["big"]), np.array([1 << 40]), "ConstantOfShape makes a tensor"),
        (helper.make_node("Expand", ["raw", "many"], ["big"]), np.array([1 << 20, 1 << 20]), "Expand makes a tensor"),
    ],
)
def test_onnx_that_would_run_for_years_or_fill_the_memory_is_refused(artifact: Artifact, node, number, complaint: str):
    model = onnx.load_model_from_string(artifact.files["model.onnx"])
    model.graph.initializer.append(onnx.numpy_helper.from_array(number, "many"))
    model.graph.node.append(node)
    with pytest.raises(ArtifactError, match=rf"model\.onnx: {complaint}"):
        Engine(with_files(artifact, model_onnx=model.SerializeToString()), "cpu", "onnx")


def test_a_number_of_the_same_name_elsewhere_does_not_hide_a_loop_whose_rounds_are_computed(artifact: Artifact):
    model = onnx.load_model_from_string(artifact.files["model.onnx"])
    constant = helper.make_node("Constant", [], ["many"], value=onnx.numpy_helper.from_array(np.int64(2)))
    computed = [helper.make_node("Size", ["raw"], ["many"]), looping()]
    model.graph.node.append(branching(constant, looping()))
    checked_model(model.SerializeToString())
    model.graph.node.append(branching(*computed))
    with pytest.raises(ArtifactError, match=r"a loop that may not end"):
        checked_model(model.SerializeToString())


def test_nested_loops_of_few_rounds_are_a_policys(artifact: Artifact):
    model = onnx.load_model_from_string(artifact.files["model.onnx"])
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.int64(100), "many"))
    model.graph.node.extend([looping(looping()), looping(scanning(scanning(scanning())))])
    checked_model(model.SerializeToString())


def test_functions_that_a_file_defines_are_refused_since_they_may_multiply(artifact: Artifact):
    model = onnx.load_model_from_string(artifact.files["model.onnx"])
    twice = helper.make_function(
        "", "Twice", ["x"], ["y"], [helper.make_node("Add", ["x", "x"], ["y"])], [helper.make_opsetid("", 18)]
    )
    model.functions.append(twice)
    with pytest.raises(ArtifactError, match="defines a function of its own, 'Twice'"):
        checked_model(model.SerializeToString())


def test_onnx_runtimes_own_format_is_not_taken_for_onnx(artifact: Artifact, tmp_path: Path):
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "model.ort")
    options.add_session_config_entry("session.save_model_format", "ORT")
    onnxruntime.InferenceSession(artifact.files["model.onnx"], options, providers=["CPUExecutionProvider"])
    data = (tmp_path / "model.ort").read_bytes()
    with pytest.raises(ArtifactError, match=r"model\.onnx: not an ONNX model"):
        Engine(with_files(artifact, model_onnx=data), "cpu", "onnx")


def test_a_dropout_in_training_mode_is_chance(artifact: Artifact):
    model = onnx.load_model_from_string(artifact.files["model.onnx"])
    model.graph.node.append(helper.make_node("Dropout", ["raw", "ratio", "training"], ["dropped"]))
    with pytest.raises(ArtifactError, match="Dropout that may be in training mode"):
        Engine(with_files(artifact, model_onnx=model.SerializeToString()), "cpu", "onnx")
