"""The exported graph: preprocessing + network + head, from named observations to the raw action."""

from __future__ import annotations

import io
import warnings
import zipfile
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn
from torch.jit._trace import TracerWarning

from carla_mlflow.contract.action_card import ActionCard
from carla_mlflow.contract.card_sections import StateCard
from carla_mlflow.contract.memory import graph_outputs, initial_value
from carla_mlflow.errors import ExportError
from training_export.graphs.head_modules import head_module


class Flatten(nn.Module):
    """Concatenates named tensors to rows of features, in the card's order."""

    def forward(self, *observations: torch.Tensor) -> torch.Tensor:
        """Each (B, *shape) → (B, F), float32."""
        return torch.cat([array.reshape(array.shape[0], -1).to(torch.float32) for array in observations], dim=1)


class PolicyGraph(nn.Module):
    """The module of the artifact's graph; it returns `raw`, then the head's parameters, then the next states.

    Args:
        network: observations, then states → the head's parameters (for `deterministic` the action), each (B, width),
            then the next states, each as the state. It never sees `reset`: the graph puts the initial values in before.
        action: the card's section.
        states: likewise, of a policy with a memory.
    """

    def __init__(self, network: nn.Module, action: ActionCard, states: Mapping[str, StateCard] | None = None) -> None:
        super().__init__()
        self.network = network
        self.head = head_module(action)
        self.action = action
        self.states = dict(states or {})
        self.beginning = nn.ModuleList([Beginning(state) for state in self.states.values()])

    @property
    def outputs(self) -> tuple[str, ...]:
        """The names of what it returns, in order."""
        return tuple(graph_outputs(self.action, self.states))

    def size(self) -> int:
        """The number of parameters."""
        return sum(tensor.numel() for tensor in self.parameters())

    def forward(self, *inputs: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Named tensors in the card's order, each (B, *shape) → (raw, *parameters, *next states).

        With a memory, `reset`, (B,), and the states follow the observations.
        """
        outputs = self.network(*self._begun(inputs))
        outputs = outputs if isinstance(outputs, tuple) else (outputs,)
        numbers = tuple(output.to(torch.float32) for output in outputs)
        count = len(numbers) - len(self.states)
        parameters, following = numbers[:count], numbers[count:]
        raw = self.head(*parameters[: 2 if self.action.head == "beta" else 1])
        return (raw, *following) if self.action.head == "deterministic" else (raw, *parameters, *following)

    def _begun(self, inputs: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        """The inputs without `reset`, with the states as the network takes them."""
        if not self.states:
            return inputs
        first = len(inputs) - len(self.states)
        begun = (begin(inputs[first - 1], state) for begin, state in zip(self.beginning, inputs[first:], strict=True))
        return (*inputs[: first - 1], *begun)


class Beginning(nn.Module):
    """Replaces a state by its initial value where an episode begins, whatever the state is."""

    def __init__(self, state: StateCard) -> None:
        super().__init__()
        self.register_buffer("initial", torch.from_numpy(initial_value(state)))
        self.initial: torch.Tensor

    def forward(self, reset: torch.Tensor, state: torch.Tensor) -> torch.Tensor:
        """(B,), (B, *shape) → (B, *shape)."""
        begins = reset.reshape(-1, *[1] * self.initial.dim()) > 0.5
        return torch.where(begins, self.initial, state)


_CHUNK = "graph(%x, %n, %dim):\n  %parts = aten::{}chunk(%x, %n, %dim)\n  return (%parts)"
"""The pattern of `chunk`, or of `unsafe_chunk`."""


def to_torchscript(graph: PolicyGraph, examples: tuple[torch.Tensor, ...]) -> bytes:
    """Traces model.pt; a network that is already scripted keeps its branches and loops.

    Args:
        graph: to be exported.
        examples: one batch of its inputs, of more than one row.

    Raises:
        ExportError: the network does not take the examples.
    """
    try:
        traced = torch.jit.trace(graph.eval(), examples, check_trace=False)  # type: ignore[no-untyped-call]
    except Exception as error:  # the network may raise anything
        raise ExportError(f"the network does not take the card's observations: {_reason(error)}") from error
    _show_chunks(traced)
    # In evaluation mode and without gradients, as it is used. Not frozen, since the weights' hash reads the state_dict;
    # not optimised for inference, which would round a row by its position in the batch (docs/adr/0004).
    learning = [parameter for parameter in graph.parameters() if parameter.requires_grad]
    traced.eval().requires_grad_(False)
    buffer = io.BytesIO()
    torch.jit.save(traced, buffer)
    for parameter in learning:  # shared with the author's network, whose training may continue
        parameter.requires_grad_(True)
    return without_debug_info(buffer.getvalue())


def _show_chunks(traced: Any) -> None:
    """Puts `chunk` in the place of `unsafe_chunk`, which a traced LSTM or GRU cell holds.

    The schema of the latter denies that its results share the argument's memory; with the former, which computes the
    same, a reader can see what the graph writes into.
    """
    for module in traced.modules():
        if module._c._has_method("forward"):
            torch._C._jit_pass_custom_pattern_based_rewrite_graph(
                _CHUNK.format("unsafe_"), _CHUNK.format(""), module._c._get_method("forward").graph
            )


def without_debug_info(archive: bytes) -> bytes:
    """A TorchScript archive without its pickled source locations, which name paths of the exporting machine.

    Repeating the same export then gives the same bytes, on any machine and at any time.
    """
    stripped = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(archive)) as source, zipfile.ZipFile(stripped, "w") as target:
        for name in source.namelist():
            if not name.endswith(".debug_pkl") and "/traced_inputs" not in name:
                target.writestr(zipfile.ZipInfo(name), source.read(name))
    return stripped.getvalue()


def script_network(network: nn.Module, examples: tuple[torch.Tensor, ...]) -> nn.Module | None:
    """The network as TorchScript, with its branches and loops; None if it can't be scripted, but a trace loses nothing.

    Args:
        network: the author's.
        examples: one batch of its inputs, of more than one row.

    Raises:
        ExportError: names the operation that TorchScript can't express.
    """
    try:
        scripted: nn.Module = torch.jit.script(network.eval())
        scripted(*examples)  # may still fail, as with torch's parametrizations
    except Exception as error:  # torch raises RuntimeError, NotSupportedError, OSError and others here
        if _can_be_traced(network, examples):
            return None
        raise ExportError(
            f"{type(network).__name__} can't be scripted: {_reason(error)}. Rewrite that operation with torch's own, "
            "or hand over a module already scripted or traced (torch.jit.trace) that behaves the same"
        ) from error
    return scripted


def _can_be_traced(network: nn.Module, examples: tuple[torch.Tensor, ...]) -> bool:
    """Whether a trace is complete: torch warns when Python code uses a tensor's value, which a trace would freeze."""
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            torch.jit.trace(network, examples, check_trace=False)  # type: ignore[no-untyped-call]
    except Exception:  # the author's code may raise anything
        return False
    return not any(issubclass(warning.category, TracerWarning) for warning in caught)


def _reason(error: Exception) -> str:
    """The message of torch's error, and the file, line and code that it marks with `<--- HERE`."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    message = next((line for line in lines if not line.startswith(("File ", "~"))), repr(error)).rstrip(": at")
    marked = [i for i, line in enumerate(lines) if line.endswith("<--- HERE")]
    if not marked:
        return message
    code = lines[marked[0] - 1] if lines[marked[0]].startswith("~") else lines[marked[0]].removesuffix("<--- HERE")
    places = [line.rstrip(":").rpartition("/")[2].replace('"', "") for line in lines if line.startswith("File ")]
    return f"{message}: {code.strip(' ~')}" + (f" ({places[0]})" if places else "")
