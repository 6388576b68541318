"""An ONNX file as a source: the user's network, with our head put behind it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import onnx
import torch

from carla_mlflow.card_sections import ActionCard
from carla_mlflow.errors import ExportError
from carla_mlflow.onnx_backend import OnnxBackend
from carla_mlflow.onnx_graph import checked_model
from carla_mlflow.weights import ONNX_PREFIX, hash_arrays, onnx_weights
from training_export.head_modules import head_module
from training_export.onnx_export import OPSET, strip, to_onnx_model


@dataclass(frozen=True)
class OnnxFile:
    """A network in ONNX that returns the head's parameters, by whatever names.

    Attributes:
        data: the file's bytes, checked.
        inputs: names, in the card's order.
    """

    data: bytes
    inputs: tuple[str, ...]

    def load(self) -> OnnxBackend:
        """The network itself, to ask what the trained policy does.

        Raises:
            ArtifactError: it is none, or holds what a policy may not.
        """
        return OnnxBackend(checked_model(self.data), "cpu", self.inputs, self.outputs())

    def outputs(self) -> tuple[str, ...]:
        """The names of what the network returns, in its own order."""
        return tuple(value.name for value in onnx.load_model_from_string(self.data).graph.output)

    def with_head(self, action: ActionCard) -> bytes:
        """model.onnx: the network, then the head; outputs `raw`, then the head's parameters.

        Raises:
            ExportError: the two can't be joined.
        """
        names = [name for name in action.outputs() if name != "raw"] or ["action"]
        found = self.outputs()
        if len(found) != len(names):
            raise ExportError(f"the network returns {', '.join(found)}; the card's head needs {', '.join(names)}")
        head = to_onnx_model(_Head(action), _example(action, len(names)), names, list(action.outputs()))
        try:
            network = self._network()
            network.ir_version = head.ir_version
            pairs = [(ONNX_PREFIX + output, name) for output, name in zip(found, names, strict=True)]
            joined = onnx.compose.merge_models(network, head, io_map=pairs)
        except (RuntimeError, ValueError, onnx.checker.ValidationError) as error:
            raise ExportError(f"the head can't be put behind this ONNX network: {error}") from error
        strip(joined)
        data: bytes = joined.SerializeToString(deterministic=True)
        return data

    def size(self) -> int:
        """The number of parameters."""
        initializers = onnx.load_model_from_string(self.data).graph.initializer
        return int(sum(onnx.numpy_helper.to_array(initializer).size for initializer in initializers))

    def weights_hash(self) -> str:
        """sha256 over every initializer: name, type, shape and bytes, by name."""
        return hash_arrays(onnx_weights(self._network()))

    def _network(self) -> Any:
        network = onnx.version_converter.convert_version(onnx.load_model_from_string(self.data), OPSET)
        return onnx.compose.add_prefix(network, ONNX_PREFIX, rename_inputs=False)


class _Head(torch.nn.Module):
    def __init__(self, action: ActionCard) -> None:
        super().__init__()
        self.head = head_module(action)
        self.action = action

    def forward(self, parameters: list[torch.Tensor]) -> tuple[torch.Tensor, ...]:
        raw = self.head(*parameters[: 2 if self.action.head == "beta" else 1])
        # + 0: an output of the graph that is also its input is not an output of its own.
        return (raw,) if self.action.head == "deterministic" else (raw, *(p + 0.0 for p in parameters))


def _example(action: ActionCard, count: int) -> tuple[torch.Tensor, ...]:
    widths: Sequence[int] = [width for name, width in action.outputs().items() if name != "raw"] or [len(action.raw)]
    return tuple(torch.ones(3, width) for width in widths[:count])
