"""What runs the exported graph: one call, arrays in, arrays out.

A backend is imported with the policy that needs it, never before.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from .errors import ArtifactError
from .torchscript_ops import check_archive, check_graph

Arrays = Sequence[NDArray[Any]]


class Backend(Protocol):
    """Runs one batch through the graph."""

    name: str

    def __call__(self, inputs: Arrays) -> list[NDArray[np.float32]]:
        """Arrays in the card's order, each (B, *shape) → `raw` and the distribution parameters, each (B, A)."""


class TorchScriptBackend:
    """model.pt, frozen, on the CPU or a CUDA device. Safe to call from several threads."""

    name = "torchscript"

    def __init__(self, graph: bytes, device: str) -> None:
        import torch

        self._torch = torch
        self._device = torch.device(device)
        check_archive(graph)
        try:
            module = torch.jit.load(io.BytesIO(graph), map_location=self._device)  # type: ignore[no-untyped-call]
            check_graph(module)
            self._forward = torch.jit.freeze(module.eval()).forward
        except (RuntimeError, AttributeError) as error:
            raise ArtifactError(f"model.pt: not a policy in TorchScript: {str(error).splitlines()[0]}") from error

    def __call__(self, inputs: Arrays) -> list[NDArray[np.float32]]:
        torch = self._torch
        with torch.inference_mode():
            tensors = [torch.from_numpy(array).to(self._device) for array in inputs]
            outputs = self._forward(*tensors)
        outputs = outputs if isinstance(outputs, tuple) else (outputs,)
        return [output.cpu().numpy() for output in outputs]


def load_backend(name: str, graph: bytes, device: str) -> Backend:
    """The backend that the card names, holding the graph."""
    if name == "torchscript":
        return TorchScriptBackend(graph, device)
    raise ArtifactError(f"the backend {name} is not known to this version of carla-mlflow")
