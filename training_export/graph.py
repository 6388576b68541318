"""The exported graph: preprocessing + network + head, from named observations to the raw action."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from carla_mlflow.card_sections import ActionCard
from carla_mlflow.errors import ExportError
from carla_mlflow.specs import ObservationSpec

TRACE_ROWS = 3  # more than one, so that no size is mistaken for a constant


class Flatten(nn.Module):
    """Named tensors → one row of features, in the card's order."""

    def forward(self, *observations: torch.Tensor) -> torch.Tensor:
        """Each (B, *shape) → (B, F), float32."""
        return torch.cat([array.reshape(array.shape[0], -1).to(torch.float32) for array in observations], dim=1)


class PolicyGraph(nn.Module):
    """What the artifact's graph computes: `raw`, then the head's parameters."""

    def __init__(self, network: Callable[..., Any], action: ActionCard) -> None:
        super().__init__()
        self.network = network
        self._head = action.head
        bounds = torch.tensor(list(action.raw.values()), dtype=torch.float32)
        self.register_buffer("low", bounds[:, 0].clone())
        self.register_buffer("high", bounds[:, 1].clone())
        self.low: torch.Tensor
        self.high: torch.Tensor

    def forward(self, *observations: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Named tensors in the card's order, each (B, *shape) → (raw, *parameters), each (B, A)."""
        outputs = self.network(*observations)
        outputs = outputs if isinstance(outputs, tuple) else (outputs,)
        first, *rest = (output.to(torch.float32) for output in outputs)
        # The mode: of a gaussian its mean, clipped as Stable-Baselines3's `predict` does.
        raw = torch.clamp(first, self.low, self.high)
        return (raw,) if self._head == "deterministic" else (raw, first, *rest)


def to_torchscript(graph: PolicyGraph, observation: ObservationSpec) -> bytes:
    """model.pt. Traced; a network that was scripted before keeps its branches and loops.

    Raises:
        ExportError: TorchScript can't express the network; says which operation, and how to go on.
    """
    graph.eval()
    examples = tuple(torch.from_numpy(array) for array in observation.example(TRACE_ROWS).values())
    try:
        traced = torch.jit.trace(graph, examples, check_trace=False)  # type: ignore[no-untyped-call]
    except Exception as error:  # whatever the network raises on an example observation
        raise ExportError(f"the network does not take the card's observations: {_reason(error)}") from error
    buffer = io.BytesIO()
    torch.jit.save(traced, buffer)
    return without_debug_info(buffer.getvalue())


def without_debug_info(archive: bytes) -> bytes:
    """A TorchScript archive without its pickled source locations, which name paths of the exporting machine.

    The same export run again gives the same bytes, on any machine and at any time.
    """
    stripped = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(archive)) as source, zipfile.ZipFile(stripped, "w") as target:
        for name in source.namelist():
            if not name.endswith(".debug_pkl") and "/traced_inputs" not in name:
                target.writestr(zipfile.ZipInfo(name), source.read(name))
    return stripped.getvalue()


def script_network(network: nn.Module) -> nn.Module:
    """The network as TorchScript.

    Raises:
        ExportError: names the operation that TorchScript can't express.
    """
    try:
        scripted: nn.Module = torch.jit.script(network.eval())
    except Exception as error:  # torch raises RuntimeError, NotSupportedError, OSError and others here
        raise ExportError(
            f"{type(network).__name__} can't be scripted: {_reason(error)}. Rewrite that operation with torch's own, "
            "or hand over a module already scripted or traced (torch.jit.trace) that behaves the same"
        ) from error
    return scripted


def _reason(error: Exception) -> str:
    """What torch says of an error, and of its `<--- HERE` picture the file, the line and the code."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    message = next((line for line in lines if not line.startswith(("File ", "~"))), repr(error)).rstrip(": at")
    marked = [i for i, line in enumerate(lines) if line.endswith("<--- HERE")]
    if not marked:
        return message
    code = lines[marked[0] - 1] if lines[marked[0]].startswith("~") else lines[marked[0]].removesuffix("<--- HERE")
    places = [line.rstrip(":").rpartition("/")[2].replace('"', "") for line in lines if line.startswith("File ")]
    return f"{message}: {code.strip(' ~')}" + (f" ({places[0]})" if places else "")
