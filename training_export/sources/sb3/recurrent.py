"""RecurrentPPO of sb3-contrib: the actor's LSTM, its two states, and sb3-contrib's own answers step by step.

The critic's LSTM plays no part in acting. sb3-contrib has a state's layers first, (L, B, H); the card has the batch
axis first: (B, H) for one layer, (B, L, H) for several.
"""

from __future__ import annotations

import zipfile
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from carla_mlflow.artifact.golden import Golden
from carla_mlflow.contract.card_sections import StateCard
from carla_mlflow.contract.memory import RESET, next_name
from carla_mlflow.errors import ExportError
from training_export.sources.sb3.answer import Answer, parameters_of
from training_export.sources.sb3.networks import Network
from training_export.sources.trained import Arrays, control_of, one_step, without_memory

ACTOR = b"lstm_actor.weight_ih_l0"
"""The name of a weight that only a policy of RecurrentPPO has, the author's own subclasses too."""


def has_actor_lstm(archive: zipfile.ZipFile) -> bool:
    """Whether model.zip holds an actor with an LSTM. Unpickles nothing: the name stands in the file as it is."""
    return ACTOR in archive.read("policy.pth")


def lstm_states(source: str, policy: Any, names: Collection[str]) -> dict[str, StateCard]:
    """The card's section `state` of a policy; empty without an actor's LSTM.

    Args:
        source: the policy's name in errors.
        policy: of a loaded model.
        names: of the observations, with which those of the states may not collide.

    Raises:
        ExportError: sb3-contrib itself can't use such an LSTM.
    """
    lstm = getattr(policy, "lstm_actor", None)
    if lstm is None:
        return {}
    if lstm.bidirectional or lstm.proj_size or lstm.batch_first:
        raise ExportError(
            f"{source}: its lstm_kwargs make an LSTM that runs in both directions, projects its output, or takes the "
            "batch axis first; only a plain one can be exported"
        )
    shape = [lstm.hidden_size] if lstm.num_layers == 1 else [lstm.num_layers, lstm.hidden_size]
    h, c = ("h", "c") if not {"h", "c", next_name("h"), next_name("c")} & set(names) else ("lstm_h", "lstm_c")
    return {h: StateCard("float32", shape), c: StateCard("float32", shape)}


class LstmCell(nn.Module):
    """One step of one layer of an LSTM, with its own weights, by the formulas of torch.nn.LSTM."""

    def __init__(self, lstm: nn.LSTM, layer: int) -> None:
        super().__init__()
        self.input, self.hidden = (
            _linear(lstm, f"weight_{kind}_l{layer}", f"bias_{kind}_l{layer}") for kind in ("ih", "hh")
        )

    def forward(self, seen: torch.Tensor, h: torch.Tensor, c: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """(B, F), (B, H), (B, H) → the next h and c."""
        enter, forget, candidate, leave = (self.input(seen) + self.hidden(h)).chunk(4, dim=1)
        c = torch.sigmoid(forget) * c + torch.sigmoid(enter) * torch.tanh(candidate)
        return torch.sigmoid(leave) * torch.tanh(c), c


def _linear(lstm: nn.LSTM, weight: str, bias: str) -> nn.Linear:
    """A layer that shares an LSTM's parameters."""
    weights = getattr(lstm, weight)
    layer = nn.Linear(weights.shape[1], weights.shape[0], bias=lstm.bias)
    layer.weight = weights
    if lstm.bias:
        layer.bias = getattr(lstm, bias)
    return layer


class LstmNetwork(nn.Module):
    """Named observations and the LSTM's two states → the head's parameters and the next states.

    Args:
        features: named observations → features.
        lstm: the actor's, for one step at a time.
        after: the LSTM's output → the head's parameters.
    """

    def __init__(self, features: nn.Module, lstm: nn.LSTM, after: nn.Module) -> None:
        super().__init__()
        self.features = features
        self.cells = nn.ModuleList([LstmCell(lstm, layer) for layer in range(lstm.num_layers)])
        self.after = after

    def forward(self, *inputs: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Observations, each (B, *shape), then h and c, each (B, H) or (B, L, H)."""
        *observations, h, c = inputs
        seen = self.features(*observations)
        layers = []
        for index, cell in enumerate(self.cells):
            before = (h, c) if len(self.cells) == 1 else (h[:, index], c[:, index])
            layers.append(cell(seen, *before))
            seen = layers[-1][0]
        parameters = self.after(seen)
        parameters = parameters if isinstance(parameters, tuple) else (parameters,)
        if len(layers) == 1:
            return (*parameters, *layers[0])
        return (*parameters, *(torch.stack(part, dim=1) for part in zip(*layers, strict=True)))


def with_lstm(network: nn.Module, policy: Any) -> nn.Module:
    """The network of a policy of RecurrentPPO, with its actor's LSTM between the features and the actor's layers."""
    assert isinstance(network, Network)
    return LstmNetwork(network.features, policy.lstm_actor, network.after).eval()


@dataclass(frozen=True)
class RecurrentAnswer:
    """Computes single steps with sb3-contrib itself.

    Attributes:
        plain: the policy's Answer.
        states: the card's section.
    """

    plain: Answer
    states: Mapping[str, StateCard]

    def __call__(self, inputs: Arrays) -> Golden:
        """Observations, `reset` and states, each (B, *shape) → sb3-contrib's own action, distribution, next states."""
        plain, policy = self.plain, self.plain.model.policy
        observations = without_memory(inputs, self.states)
        seen = plain.seen(observations)
        states = tuple(_layers_first(inputs[name], policy.lstm_actor.num_layers) for name in self.states)
        try:
            chosen, following = policy.predict(seen, states, inputs[RESET], deterministic=True)
            tensors = policy.obs_to_tensor(seen)[0], tuple(torch.from_numpy(state) for state in states)
            with torch.no_grad():
                distribution, _ = policy.get_distribution(*tensors, torch.from_numpy(inputs[RESET]))
        except Exception as error:  # an extractor of the author's own may raise anything
            raise plain.failed(error) from error
        raw = np.asarray(chosen, dtype=np.float32).reshape(len(chosen), -1)
        parameters = parameters_of(plain.action, distribution.distribution)
        returned = {name: _batch_first(state) for name, state in zip(self.states, following, strict=True)}
        control = control_of(plain.action, raw)
        return Golden(observations, raw, parameters, control, rollouts=one_step(inputs, returned))


def _layers_first(state: NDArray[np.float32], layers: int) -> NDArray[np.float32]:
    """(B, H) or (B, L, H) → (L, B, H)."""
    return np.ascontiguousarray(np.swapaxes(state.reshape(len(state), layers, -1), 0, 1))


def _batch_first(state: NDArray[np.float32]) -> NDArray[np.float32]:
    """(L, B, H) → (B, H) or (B, L, H)."""
    return state[0] if len(state) == 1 else np.ascontiguousarray(np.swapaxes(state, 0, 1))
