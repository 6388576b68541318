"""Named observations before an ONNX network that takes one flat vector, as the exporters of robot learning write it."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper

from carla_mlflow.contract.specs import ObservationSpec
from training_export.graphs.open_batch import inputs_of

_TYPES = {"float32": TensorProto.FLOAT, "uint8": TensorProto.UINT8}
_PREFIX = "flat/"
"""Of every name inside the network: an observation's name, an identifier, then meets none of them."""


def takes_flat(model: Any, specs: ObservationSpec) -> bool:
    """Whether the model takes one float32 vector that is as long as the observations together."""
    inputs = inputs_of(model)
    if len(inputs) != 1 or inputs[0].type.tensor_type.elem_type != TensorProto.FLOAT:
        return False
    axes = inputs[0].type.tensor_type.shape.dim
    return len(axes) == 2 and axes[1].dim_value == sum(_size(spec.shape) for spec in specs)


def behind_flatten(model: Any, specs: ObservationSpec) -> Any:
    """The model with the named observations as its inputs, concatenated in the order of the specs.

    Args:
        model: `takes_flat` is true of it.
        specs: of the observations.
    """
    [flat] = inputs_of(model)
    axis, width = flat.type.tensor_type.shape.dim
    rows = axis.dim_value or axis.dim_param or "rows"
    inputs, nodes, shapes = [], [], []
    for spec in specs:
        inputs.append(helper.make_tensor_value_info(spec.name, _TYPES[spec.dtype], [rows, *spec.shape]))
        shapes.append(onnx.numpy_helper.from_array(np.array([-1, _size(spec.shape)]), f"{spec.name}/shape"))
        nodes.append(helper.make_node("Reshape", [spec.name, f"{spec.name}/shape"], [f"{spec.name}/row"]))
        nodes.append(helper.make_node("Cast", [f"{spec.name}/row"], [f"{spec.name}/float"], to=TensorProto.FLOAT))
    nodes.append(helper.make_node("Concat", [f"{name}/float" for name in specs.names], ["joined"], axis=1))
    joined = helper.make_tensor_value_info("joined", TensorProto.FLOAT, [rows, width.dim_value])
    graph = helper.make_graph(nodes, "flatten", inputs, [joined], shapes)
    before = helper.make_model(graph, opset_imports=model.opset_import, ir_version=model.ir_version)
    behind = onnx.compose.add_prefix(model, _PREFIX, rename_outputs=False)
    joint = onnx.compose.merge_models(before, behind, io_map=[("joined", _PREFIX + flat.name)])
    del joint.opset_import[:]  # where merge_models lists the same version twice
    joint.opset_import.extend(model.opset_import)
    return joint


def _size(shape: tuple[int, ...]) -> int:
    return int(np.prod(shape, dtype=np.int64))
