"""The observations that a network's file takes, where the card does not say it: names, shapes, the range in training.

An ONNX file names its inputs. A TorchScript file that takes one vector gets the name `obs`, as rsl_rl and Isaac Lab
call it in the ONNX file of the same policy. Bounds are in neither, but the range in training is, where the network
begins with a normaliser: rsl_rl's and Isaac Lab's do.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import onnx
import torch
from onnx import TensorProto

from carla_mlflow.contract.field_card import FieldCard
from carla_mlflow.contract.specs import ObservationSpec
from carla_mlflow.errors import CardError, ExportError
from training_export.graphs.open_batch import inputs_of
from training_export.sources.seen import Range, of_moments, split_range

FLAT = "obs"
_MEAN, _STD = "_mean", "_std"
"""Endings of the buffers of rsl_rl's EmpiricalNormalization, rsl_rl/modules/normalization.py."""
_TYPES = {TensorProto.FLOAT: "float32", TensorProto.UINT8: "uint8"}


def of_onnx(source: str, model: Any) -> dict[str, FieldCard]:
    """The observation section for an ONNX network, as its inputs have it.

    Raises:
        CardError: an input's type, shape or name can't be an observation's; the card has to say what it takes.
    """
    section = {}
    for value in inputs_of(model):
        kind = _TYPES.get(value.type.tensor_type.elem_type)
        axes = [axis.dim_value for axis in value.type.tensor_type.shape.dim]
        if kind is None or not axes or not all(axes[1:]) or not value.name.isidentifier():
            raise CardError(
                f"{source}: its input {value.name!r} tells no observation (float32 or uint8, batch axis first, all "
                "other axes fixed, an identifier as its name): pass --card FILE with an observation section"
            )
        section[value.name] = _field(kind, axes[1:])
    return section


def of_torchscript(source: str, module: Any) -> dict[str, FieldCard]:
    """The observation section for a TorchScript network that takes one vector; its weights say how long.

    Raises:
        CardError: it takes something else, which the card has to say.
    """
    arguments = module.forward.schema.arguments[1:]
    for width in dict.fromkeys(_widths(module)) if len(arguments) == 1 else ():
        try:
            with torch.no_grad():
                module(torch.zeros(2, width))
        except RuntimeError:  # TorchScript's, of a width that does not fit
            continue
        return {FLAT: _field("float32", [width])}
    names = ", ".join(argument.name for argument in arguments)
    raise CardError(f"{source}: pass --card FILE with an observation section, for what its forward({names}) takes")


def seen_by_onnx(model: Any, specs: ObservationSpec) -> dict[str, Range]:
    """Observation → its range in training, where the network first subtracts a mean and divides by a deviation."""
    constants = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    first = inputs_of(model)[0].name
    for less, mean in _applied(model, "Sub", first, constants):
        for _, std in _applied(model, "Div", less, constants):
            return _seen(mean, std, specs)
    return {}


def seen_by_module(module: torch.nn.Module, specs: ObservationSpec) -> dict[str, Range]:
    """Likewise for a torch or TorchScript network, whose normaliser's buffers have the names of rsl_rl's."""
    state = dict(module.state_dict())
    for key, mean in state.items():
        if key.endswith(_MEAN) and (std := state.get(key.removesuffix(_MEAN) + _STD)) is not None:
            return _seen(mean.double().numpy(), std.double().numpy(), specs)
    return {}


def _seen(mean: Any, std: Any, specs: ObservationSpec) -> dict[str, Range]:
    width = sum(int(np.prod(spec.shape, dtype=int)) for spec in specs)
    if not np.size(mean) == np.size(std) == width or not (std > 0).all():
        return {}  # not of these observations, or not yet fitted
    return split_range(of_moments(np.ravel(mean), np.ravel(std)), specs)


def refuse_memory(source: str, model: Any, observations: set[str], needed: int) -> None:
    """Refuses an ONNX network that takes and returns a state beside the observations, as a recurrent one does.

    Args:
        source: names the file.
        model: the network.
        observations: names that the card has for observations; empty when it has none.
        needed: the number of outputs that the head needs.

    Raises:
        ExportError: names the states, and says what to do.
    """
    outputs = [_shape(value) for value in model.graph.output][needed:]
    extra = [value.name for value in inputs_of(model) if value.name not in observations and _shape(value) in outputs]
    extra = extra if observations else [name for name in extra if _rank(model, name) > 2]
    if extra:
        raise ExportError(
            f"{source}: takes and returns a memory beside the observations ({', '.join(extra)}); {REMEDY}"
        )


REMEDY = (
    "write a build() whose module takes that memory beside the observations and returns the next, and name it under "
    "`state:` in the card (docs/how-to/recipes.md)"
)


def hidden_memory(tensors: list[str]) -> str:
    """Why a TorchScript network that writes into its own tensors is refused, and what to do."""
    return (
        f"keeps a memory inside itself ({', '.join(tensors)}), as rsl_rl and Isaac Lab export recurrent policies: "
        "every call would change the next answer, whichever car it is for, and no answer could be repeated or checked; "
        + REMEDY
    )


def _field(kind: str, shape: list[int]) -> FieldCard:
    return FieldCard("uint8", shape, 0, 255) if kind == "uint8" else FieldCard("float32", shape)


def _widths(module: Any) -> Iterator[int]:
    """Lengths that the input may have, the likeliest first: the normaliser's, then what each layer takes."""
    state = module.state_dict()
    yield from (tensor.numel() for name, tensor in state.items() if name.endswith(_MEAN))
    yield from (tensor.shape[-1] for tensor in state.values() if tensor.dim() == 2)


def _applied(model: Any, kind: str, value: str, constants: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """The nodes of a kind that apply a constant to a value: the name of the result, and the constant."""
    for node in model.graph.node:
        if node.op_type == kind and node.input[0] == value and node.input[1] in constants:
            yield node.output[0], constants[node.input[1]]


def _shape(value: Any) -> tuple[Any, ...]:
    return tuple(axis.dim_value or axis.dim_param for axis in value.type.tensor_type.shape.dim)


def _rank(model: Any, name: str) -> int:
    return next(len(_shape(value)) for value in inputs_of(model) if value.name == name)
