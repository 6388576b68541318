"""Opens an ONNX file's batch axis, which exporters fix by default: rsl_rl and Isaac Lab at one row."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import onnx


def inputs_of(model: Any) -> list[Any]:
    """A model's inputs without its weights, which older exporters list as inputs too."""
    weights = {tensor.name for tensor in model.graph.initializer}
    return [value for value in model.graph.input if value.name not in weights]


def fixed_rows(model: Any) -> int:
    """The fixed number of rows; 0 when the batch axis is open."""
    return max((_rows(value).dim_value for value in inputs_of(model) if _has_rows(value)), default=0)


def with_open_batch(model: Any) -> Any:
    """Opens the first axis of the inputs and outputs to any number of rows; changes the model itself."""
    for value in (*inputs_of(model), *model.graph.output):
        if _has_rows(value) and _rows(value).dim_value:
            _rows(value).dim_param = "rows"
            del model.graph.value_info[:]  # intermediate shapes, which have the fixed number
    return model


def with_open_reshapes(model: Any, rows: int) -> Any:
    """Lets each Reshape to a constant shape of `rows` rows keep the rows that it gets; changes the model itself.

    An exporter writes the number of rows into such shapes, as in `[1, 2, 2]` for a Beta's two parameters of two
    actions. A 0 in the shape takes over the input's size (ONNX, Reshape, allowzero=0). Whether the first axis is the
    batch there is not known: whoever calls this compares the answers.
    """
    shapes = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type == "Constant" and node.attribute[0].HasField("t"):
            shapes[node.output[0]] = onnx.numpy_helper.to_array(node.attribute[0].t)
    for index, node in enumerate(_reshapes(model)):
        shape = shapes.get(node.input[1])
        if shape is None or shape.ndim != 1 or not len(shape) or shape[0] != rows or (shape == 0).any():
            continue
        opened = np.concatenate([np.zeros(1, np.int64), shape[1:]])
        node.input[1] = f"open_shape_{index}"
        model.graph.initializer.append(onnx.numpy_helper.from_array(opened, node.input[1]))
        kept = [attribute for attribute in node.attribute if attribute.name != "allowzero"]
        del node.attribute[:]
        node.attribute.extend(kept)
    return model


def _reshapes(model: Any) -> Iterator[Any]:
    return (node for node in model.graph.node if node.op_type == "Reshape" and len(node.input) == 2)


def _has_rows(value: Any) -> bool:
    return bool(value.type.tensor_type.shape.dim)


def _rows(value: Any) -> Any:
    return value.type.tensor_type.shape.dim[0]
