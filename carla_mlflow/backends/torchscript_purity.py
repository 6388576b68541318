"""Checks that a graph's answer depends on its own row only (no state, randomness or other rows), and that it ends.

All of this is read from the frozen graph, which no longer has branches for training, before it runs.
"""

from __future__ import annotations

import re
from typing import Any

import torch

from ..errors import ArtifactError
from .torchscript_ops import all_nodes

MAX_TRIPS = 10_000
"""The most iterations of nested loops, multiplied: a recurrent policy loops over its few time steps."""
MAX_SCANS = 3
"""The deepest nesting of loops over arrays in memory: over rows, time steps and elements."""
MAX_DIMENSIONS = 64
"""The most dimensions of a tensor in PyTorch."""

_TRAINING = {"train": False, "training": False, "dropout_p": 0.0}
"""Arguments of operations → the value with which these draw no random numbers and use no other rows."""


def check_purity(graph: Any) -> tuple[bool, ...]:
    """Refuses a graph that could give different answers to the same row, or never end.

    Args:
        graph: of a frozen module, every call inlined.

    Returns:
        For each input, whether the graph writes into it, so that it must be given a copy.

    Raises:
        ArtifactError: says what the graph does.
    """
    for node in all_nodes(graph):
        _check_training(node)
    inputs = list(graph.inputs())[1:]  # the first is the module
    _check_loops(graph, {value.debugName() for value in inputs}, 1, 0)
    _check_memory(graph, inputs)
    aliases = graph.alias_db(isFrozen=True)
    return tuple(bool(aliases.has_writers(value)) for value in inputs)


def memory_of(graph: Any) -> list[str]:
    """The names of tensors of its own that a frozen graph writes when it runs; empty for a policy without memory."""
    names = (re.sub(r"\.\d+$", "", value.debugName()) for value in _written(graph))
    return list(dict.fromkeys(names))


def _written(graph: Any) -> list[Any]:
    aliases = graph.alias_db(isFrozen=False)  # PyTorch's own analysis of which values share memory or are written
    return [value for value in _kept(graph) if aliases.has_writers(value)]


def _kept(graph: Any) -> list[Any]:
    kinds = {"prim::GetAttr", "prim::Constant"}
    return [value for node in all_nodes(graph) if node.kind() in kinds for value in node.outputs()]


def _check_memory(graph: Any, inputs: list[Any]) -> None:
    kept, aliases = _kept(graph), graph.alias_db(isFrozen=False)
    written = [value.debugName() for value in _written(graph)]
    # It does not follow constant tuples: a tensor taken from one counts as of unknown origin, as the inputs do.
    tuples = any("Tensor" in str(value.type()) and value.type().kind() != "TensorType" for value in kept)
    if tuples and any(aliases.has_writers(value) for value in inputs):
        written.append("a tensor in a tuple or a list")
    if written:
        raise ArtifactError(f"model.pt: changes its own tensors when it runs ({written[0]}): a policy keeps no state")


def _check_training(node: Any) -> None:
    schema = node.schema()
    if not any(name in schema for name in _TRAINING):
        return
    arguments = torch._C.parse_schema(schema).arguments
    for argument, value in zip(arguments, node.inputs(), strict=False):
        if argument.name in _TRAINING and _constant(value) != _TRAINING[argument.name]:
            raise ArtifactError(
                f"model.pt: {node.kind()} is in training mode ({argument.name}): it draws random numbers, or "
                "a row's result depends on other rows; export the network after .eval()"
            )


def _check_loops(block: Any, inputs: set[str], rounds: int, scans: int) -> None:
    for node in block.nodes():
        trips = _trips(node, inputs) if node.kind() == "prim::Loop" else 1
        nested = scans + (node.kind() == "prim::Loop" and trips == 1)
        if trips is None or rounds * trips > MAX_TRIPS or nested > MAX_SCANS:
            raise ArtifactError(
                f"model.pt: a loop that may not end: expected a constant number of iterations, or the size of an "
                f"observation, at most {MAX_TRIPS:,} in all, and at most {MAX_SCANS} nested over a size"
            )
        for inner in node.blocks():
            _check_loops(inner, inputs, rounds * trips, nested)


def _trips(loop: Any, inputs: set[str]) -> int | None:
    """The most iterations of a loop: its constant, 1 for a loop over an array in memory, None when unknown."""
    most, condition = list(loop.inputs())[:2]
    [body] = loop.blocks()
    if _constant(condition) is not True or _constant(next(body.outputs())) is not True:  # `while`, or a `break`
        return None
    return _bound(most, inputs)


def _bound(number: Any, inputs: set[str]) -> int | None:
    constant, source = _constant(number), number.node()
    if isinstance(constant, int):
        return max(constant, 1)
    if source.kind() == "aten::dim":
        return MAX_DIMENSIONS
    given = list(source.inputs())
    if source.kind() in {"aten::size", "aten::len"}:
        in_memory = given[0].debugName() in inputs or given[0].type().kind() == "ListType"
        return 1 if in_memory else None
    if source.kind() in {"aten::sub", "aten::add"}:
        left, offset = _bound(given[0], inputs), _constant(given[1])
        if left is not None and isinstance(offset, int) and abs(offset) <= MAX_DIMENSIONS:
            return left + MAX_DIMENSIONS
    return None


def _constant(value: Any) -> Any:
    return value.toIValue() if value.node().kind() == "prim::Constant" else None
