"""An ONNX file as a source: the user's network, to which our head is appended."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import onnx
import torch

from carla_mlflow.backends.onnx_checks import checked_model
from carla_mlflow.backends.onnx_session import OnnxBackend
from carla_mlflow.backends.weights import ONNX_PREFIX, hash_arrays, onnx_weights
from carla_mlflow.contract.action_card import ActionCard
from carla_mlflow.contract.specs import ObservationSpec
from carla_mlflow.errors import ExportError
from training_export.graphs.flat_input import behind_flatten, takes_flat
from training_export.graphs.head_modules import head_module
from training_export.graphs.onnx_export import OPSET, strip, to_onnx_model
from training_export.graphs.open_batch import fixed_rows, inputs_of, with_open_batch, with_open_reshapes


@dataclass(frozen=True)
class OnnxFile:
    """A network in ONNX that returns the head's parameters, under any names.

    Attributes:
        data: the file's bytes, checked.
        inputs: names, in the card's order.
    """

    data: bytes
    inputs: tuple[str, ...]

    def load(self) -> OnnxBackend:
        """The network, ready to run, as the file has it.

        Raises:
            ArtifactError: the file is not ONNX, or contains what a policy may not.
        """
        return OnnxBackend(checked_model(self.data), "cpu", self.inputs, self.outputs())

    @property
    def batch(self) -> int:
        """The fixed number of rows in the file; 0 when the batch axis is open."""
        return fixed_rows(onnx.load_model_from_string(self.data))

    def opened(self, reshapes: bool = False) -> OnnxFile:
        """The file with an open batch axis; with `reshapes` also in constant shapes inside the graph."""
        model = onnx.load_model_from_string(self.data)
        rows = fixed_rows(model)
        model = with_open_batch(model)
        return replace(self, data=(with_open_reshapes(model, rows) if reshapes else model).SerializeToString())

    def taking(self, specs: ObservationSpec) -> OnnxFile:
        """The file for these observations, flattened and joined first if it takes one vector of another name."""
        model = onnx.load_model_from_string(self.data)
        named = [value.name for value in inputs_of(model)] == list(specs.names)
        if named or not takes_flat(model, specs):
            return self
        return OnnxFile(behind_flatten(model, specs).SerializeToString(), specs.names)

    def narrowed(self, wanted: Sequence[str]) -> OnnxFile:
        """The file with only the outputs that a head needs, if it has more; their names have to be the head's."""
        returned = self.outputs()
        if len(returned) <= len(wanted):
            return self  # `with_head` refuses too few outputs
        if not set(wanted) <= set(returned):
            raise ExportError(
                f"the network returns {', '.join(returned)}; the card's head needs {len(wanted)} of these, "
                f"{', '.join(wanted)}: name them so, or leave the others out: onnx.utils.extract_model("
                f"FILE, NEW_FILE, {list(self.inputs)}, NAMES)"
            )
        model = onnx.load_model_from_string(self.data)
        inputs = [value.name for value in model.graph.input]
        return OnnxFile(
            onnx.utils.Extractor(model).extract_model(inputs, list(wanted)).SerializeToString(), self.inputs
        )

    def outputs(self) -> tuple[str, ...]:
        """The names of the network's outputs, in its own order."""
        return tuple(value.name for value in onnx.load_model_from_string(self.data).graph.output)

    def with_head(self, action: ActionCard) -> bytes:
        """model.onnx: the network, then the head; its outputs are `raw`, then the head's parameters.

        Raises:
            ExportError: the two can't be joined.
        """
        names = output_names(action)
        returned = self.outputs()
        if len(returned) != len(names):
            raise ExportError(f"the network returns {', '.join(returned)}; the card's head needs {', '.join(names)}")
        head = to_onnx_model(_Head(action), _example(action, len(names)), names, list(action.outputs()))
        try:
            network = self._network()
            network.ir_version = head.ir_version
            pairs = [(ONNX_PREFIX + output, name) for output, name in zip(returned, names, strict=True)]
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
        """sha256 over every initializer: name, type, shape and bytes, sorted by name."""
        return hash_arrays(onnx_weights(self._network()))

    def _network(self) -> Any:
        network = with_open_batch(onnx.load_model_from_string(self.data))
        network = onnx.version_converter.convert_version(network, OPSET)
        return onnx.compose.add_prefix(network, ONNX_PREFIX, rename_inputs=False)


def output_names(action: ActionCard) -> list[str]:
    """The outputs that a network in ONNX needs for a head, in order."""
    return [name for name in action.outputs() if name != "raw"] or ["action"]


class _Head(torch.nn.Module):
    def __init__(self, action: ActionCard) -> None:
        super().__init__()
        self.head = head_module(action)
        self.action = action

    def forward(self, parameters: list[torch.Tensor]) -> tuple[torch.Tensor, ...]:
        raw = self.head(*parameters[: 2 if self.action.head == "beta" else 1])
        # + 0: the graph's inputs can't be its outputs themselves.
        return (raw,) if self.action.head == "deterministic" else (raw, *(p + 0.0 for p in parameters))


def _example(action: ActionCard, count: int) -> tuple[torch.Tensor, ...]:
    widths: Sequence[int] = [width for name, width in action.outputs().items() if name != "raw"] or [len(action.raw)]
    return tuple(torch.ones(3, width) for width in widths[:count])
