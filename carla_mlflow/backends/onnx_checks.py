"""What a policy's ONNX file may hold: standard operators only, and all weights inside the file.

ONNX operators only compute, but a tensor may name another file to be read in its place (external data), and operators
of other domains come from libraries. Both are refused before ONNX Runtime sees a byte. So are random operators, since a
policy's answer depends on its observation only, and loops that might not end.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from ..errors import ArtifactError

DOMAINS = frozenset({"", "ai.onnx"})
RANDOM = frozenset(
    {"Bernoulli", "Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike"}
)
MAX_TRIPS = 10_000
"""The most iterations of nested loops, multiplied: a recurrent policy loops over its few time steps."""
MAX_SCANS = 3
"""The deepest nesting of loops over arrays in memory: over rows, time steps and elements."""
SCANS = frozenset({"Scan", "SequenceMap"})
MAX_ELEMENTS = 1 << 26
"""The limit of a tensor that is made from a shape alone, and so takes no space in the file."""


def checked_model(graph: bytes) -> bytes:
    """Checks an ONNX model and serialises it again, since another reader may find more in the original bytes.

    Raises:
        ArtifactError: names what a policy's ONNX file may not hold.
    """
    import onnx
    from google.protobuf.message import DecodeError

    try:
        model = onnx.load_model_from_string(graph)
    except (DecodeError, ValueError, TypeError) as error:
        raise ArtifactError("model.onnx: not an ONNX model") from error
    messages = list(_messages(model))
    tensors = [message for message in messages if isinstance(message, onnx.TensorProto)]
    nodes = [message for message in messages if isinstance(message, onnx.NodeProto)]
    for tensor in tensors:
        if tensor.external_data or tensor.data_location == onnx.TensorProto.EXTERNAL:
            raise ArtifactError(f"model.onnx: the tensor {tensor.name!r} lies in another file (external data)")
    refused = {(n.domain, n.op_type) for n in nodes if n.domain not in DOMAINS or n.op_type in RANDOM}
    unknown = sorted(f"{domain}.{kind}".lstrip(".") for domain, kind in refused)
    if unknown:
        raise ArtifactError(f"model.onnx: uses operators that a policy may not use: {', '.join(unknown)}")
    if not nodes:
        raise ArtifactError("model.onnx: not an ONNX model")
    if model.functions:  # each may call others many times, so that a small file grows without end
        raise ArtifactError(f"model.onnx: defines a function of its own, {model.functions[0].name!r}; inline it first")
    numbers = _integer_products(tensors, nodes)
    for node in nodes:
        _check_training(node)
        _check_size(node, numbers)
    _check_loops(model.graph, {name: numbers[name] for name in numbers.keys() - _computed(messages)}, 1, 0)
    written: bytes = model.SerializeToString()
    return written


def _check_training(node: Any) -> None:
    if node.op_type == "Dropout" and len(node.input) > 2:
        raise ArtifactError(
            "model.onnx: holds a Dropout that may be in training mode, where it drops numbers at random"
        )
    if node.op_type == "BatchNormalization" and any(a.name == "training_mode" and a.i for a in node.attribute):
        raise ArtifactError(
            "model.onnx: holds a BatchNormalization in training mode, where a row's result depends on the others"
        )


def _check_size(node: Any, numbers: dict[str, float]) -> None:
    shape = {"ConstantOfShape": 0, "Expand": 1}.get(node.op_type)
    if shape is not None and len(node.input) > shape and numbers.get(node.input[shape], 0.0) > MAX_ELEMENTS:
        raise ArtifactError(f"model.onnx: {node.op_type} makes a tensor of more than {MAX_ELEMENTS:,} elements")


def _check_loops(graph: Any, numbers: dict[str, float], rounds: float, scans: int) -> None:
    """Refuses nested loops of more than MAX_TRIPS iterations, and loops without a constant limit in the file."""
    for node in graph.node:
        inner, nested = rounds, scans + (node.op_type in SCANS)
        if node.op_type == "Loop":
            inner *= max(numbers.get(node.input[0] if node.input else "", np.inf), 1.0)
        if inner > MAX_TRIPS or nested > MAX_SCANS:
            raise ArtifactError(
                f"model.onnx: a loop that may not end: expected a constant number of iterations, at most "
                f"{MAX_TRIPS:,} of nested loops multiplied, and at most {MAX_SCANS} nested {' or '.join(sorted(SCANS))}"
            )
        for attribute in node.attribute:
            for body in (attribute.g, *attribute.graphs):
                _check_loops(body, numbers, inner, nested)


def _computed(messages: list[Any]) -> set[str]:
    """Names of values computed at run time: a constant of the same name in another graph does not limit them."""
    import onnx

    graphs = [message for message in messages if isinstance(message, onnx.GraphProto)]
    nodes = [node for graph in graphs for node in graph.node if node.op_type != "Constant"]
    return {name for node in nodes for name in node.output} | {value.name for graph in graphs for value in graph.input}


def _integer_products(tensors: list[Any], nodes: list[Any]) -> dict[str, float]:
    """Name → product of the elements of the constant integer tensor of that name; of several tensors the largest."""
    from onnx import TensorProto, numpy_helper

    named = [(tensor.name, tensor) for tensor in tensors]
    named += [(n.output[0], a.t) for n in nodes if n.op_type == "Constant" for a in n.attribute if a.HasField("t")]
    numbers: dict[str, float] = {}
    for name, tensor in named:
        if tensor.data_type != TensorProto.INT64 or len(tensor.dims) > 1:
            continue
        try:
            number = float(np.prod(numpy_helper.to_array(tensor).astype(np.float64)))
        except ValueError as error:
            raise ArtifactError(f"model.onnx: the tensor {name!r} does not hold what its shape says") from error
        numbers[name] = max(number, numbers.get(name, number))
    return numbers


def _messages(root: Any) -> Iterator[Any]:
    """Every message inside a protobuf message, wherever it lies: attributes, subgraphs, sparse tensors, functions."""
    waiting = [root]
    while waiting:
        message = waiting.pop()
        yield message
        for field, value in message.ListFields():
            if field.message_type is not None:
                waiting.extend([value] if hasattr(value, "ListFields") else list(value))
