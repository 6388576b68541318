"""The same graph for ONNX Runtime: model.onnx, from torch's exporter based on torch.export."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator, Sequence
from typing import Any

import torch

from carla_mlflow.errors import ExportError
from training_export.graphs.graph import PolicyGraph

OPSET = 20
_OURS, _INNER = "ours/", "inner/"
"""Prefixes of names while a model is exported; torch's own have no slash."""


class _Listed(torch.nn.Module):
    """The graph with its inputs as one list, which the exporter can name one by one."""

    def __init__(self, graph: PolicyGraph) -> None:
        super().__init__()
        self.policy = graph

    def forward(self, inputs: list[torch.Tensor]) -> tuple[torch.Tensor, ...]:
        outputs: tuple[torch.Tensor, ...] = self.policy(*inputs)
        return outputs


def to_onnx(graph: PolicyGraph, examples: tuple[torch.Tensor, ...], inputs: Sequence[str]) -> bytes:
    """model.onnx; raises as `to_onnx_model`."""
    model = to_onnx_model(_Listed(graph), examples, inputs, graph.outputs)
    data: bytes = model.SerializeToString(deterministic=True)
    return data


def to_onnx_model(
    module: torch.nn.Module, examples: tuple[torch.Tensor, ...], inputs: Sequence[str], outputs: Sequence[str]
) -> Any:
    """Exports a module that takes a list of tensors to an ONNX model with an open batch axis.

    Args:
        module: list of tensors, each (B, *shape) → tuple of tensors.
        examples: one batch of its inputs, of more than one row.
        inputs: their names.
        outputs: their names.

    Raises:
        ExportError: the exporter can't express the network; says why.
    """
    import onnx

    rows = {0: torch.export.Dim.DYNAMIC}
    try:
        with _quiet():
            program = torch.onnx.export(
                module.eval(),
                (list(examples),),
                dynamo=True,
                opset_version=OPSET,
                input_names=[_OURS + name for name in inputs],
                output_names=[_OURS + name for name in outputs],
                dynamic_shapes=([rows for _ in examples],),
                verbose=False,
            )
    except Exception as error:  # the network, torch.export and onnxscript may raise anything
        raise ExportError(first_line(error)) from error
    assert program is not None
    model = onnx.load_model_from_string(program.model_proto.SerializeToString())
    strip(model)
    _rename(model.graph, {*inputs, *outputs})
    return model


def _rename(graph: Any, ours: set[str]) -> None:
    """Gives inputs and outputs their own names, and another to a value inside the graph that has one of these.

    torch names values by their operations: an observation named `view` would be defined twice.
    """

    def renamed(name: str) -> str:
        return name.removeprefix(_OURS) if name.startswith(_OURS) else f"{_INNER}{name}" if name in ours else name

    for value in (*graph.input, *graph.output, *graph.initializer):
        value.name = renamed(value.name)
    for node in graph.node:
        node.input[:] = [renamed(name) for name in node.input]
        node.output[:] = [renamed(name) for name in node.output]
        for attribute in node.attribute:
            for body in (attribute.g, *attribute.graphs):
                _rename(body, ours)


def strip(model: Any) -> None:
    """Removes what names paths of the exporting machine: source lines, stack traces, the producer's notes."""
    model.doc_string = ""
    del model.metadata_props[:]
    graph = model.graph
    graph.doc_string = ""
    del graph.metadata_props[:], graph.value_info[:]
    for part in (*graph.node, *graph.input, *graph.output, *graph.initializer):
        part.doc_string = ""
        del part.metadata_props[:]


def first_line(error: BaseException) -> str:
    """The innermost reason, in one line."""
    while error.__cause__ is not None:
        error = error.__cause__
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silences the exporter, which prints its steps and whole graphs, and warns of libraries that it does not need."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with (
            warnings.catch_warnings(),
            contextlib.redirect_stdout(io.StringIO()),
            contextlib.redirect_stderr(io.StringIO()),
        ):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
