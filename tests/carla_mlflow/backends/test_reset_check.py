"""A graph with a memory begins an episode as its card says, keeps nothing itself, and returns what the card names."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from remembering_export import exported_lstm
from torch import nn

from benchmarks.policies.remembering import Lstm
from carla_mlflow import Engine
from carla_mlflow.artifact.artifact import seal
from carla_mlflow.contract.backend_names import BACKENDS
from carla_mlflow.contract.card import Card
from carla_mlflow.contract.card_sections import StateCard
from carla_mlflow.contract.memory import graph_inputs
from carla_mlflow.errors import ArtifactError
from training_export.graphs.graph import PolicyGraph, to_torchscript


def card() -> Card:
    return exported_lstm().artifact.card


def loaded(graph: PolicyGraph) -> Engine:
    """An engine of the LSTM's artifact with another graph for TorchScript."""
    artifact = exported_lstm().artifact
    inputs = graph_inputs(card().observation_spec, graph.states)
    examples = tuple(torch.from_numpy(array) for array in inputs.example(3).values())
    files = {name: artifact.files[name] for name in card().files}
    return Engine(seal(card(), files | {"model.pt": to_torchscript(graph, examples)}), "cpu", "torchscript")


class Multiplying(PolicyGraph):
    """Begins with zeros, as sb3-contrib does."""

    def _begun(self, inputs: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        *observed, reset, h, c = inputs
        kept = (1.0 - reset).reshape(-1, 1)
        return (*observed, kept * h, kept * c)


class Deaf(PolicyGraph):
    """Goes on with the state where an episode begins."""

    def _begun(self, inputs: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        *observed, reset, h, c = inputs
        return (*observed, h + 0.0 * reset.reshape(-1, 1), c)


class Keeping(nn.Module):
    """Remembers in a buffer of its own besides."""

    def __init__(self) -> None:
        super().__init__()
        self.network = Lstm()
        self.register_buffer("before", torch.zeros(64))
        self.before: torch.Tensor

    def forward(
        self, speed: torch.Tensor, beams: torch.Tensor, h: torch.Tensor, c: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
        mean, std, h, c = self.network(speed, beams, h, c)
        self.before.copy_(h[0])
        return mean, std, h + 0.0 * self.before, c


def graph_of(kind: type[PolicyGraph], network: nn.Module, **states: StateCard) -> PolicyGraph:
    return kind(torch.jit.script(network.eval()), card().action, {**card().states, **states})


@pytest.mark.parametrize(
    ("make", "complaint"),
    [
        (lambda: graph_of(Multiplying, Lstm()), "begins with other states than the card's `initial`"),
        (lambda: graph_of(Deaf, Lstm()), "does not ignore its states where `reset` is 1"),
        (lambda: graph_of(PolicyGraph, Lstm(), h=StateCard("float32", [64], 0.75)), "begins with other states"),
        (lambda: graph_of(PolicyGraph, Keeping()), "changes its own tensors when it runs"),
        (lambda: graph_of(PolicyGraph, Lstm(32), **{name: StateCard("float32", [32]) for name in "hc"}), "failed on"),
    ],
)
def test_a_graph_that_remembers_otherwise_than_its_card_says_is_refused(
    make: Callable[[], PolicyGraph], complaint: str
):
    graph = make()  # not where tests are collected, which every process does
    with pytest.raises(ArtifactError, match=complaint):
        loaded(graph)


def test_the_graph_forgets_even_a_state_that_is_no_number():
    for name in BACKENDS:
        engine = exported_lstm().engines[name]
        example = card().graph_inputs.example(3)
        example["reset"][:] = 1.0
        clean = [output.copy() for output in engine._backend(list(example.values()))]  # the graph's own outputs
        example["h"][:] = float("nan")
        example["c"][:] = float("inf")
        again = engine._backend(list(example.values()))
        assert [one.tobytes() for one in clean] == [two.tobytes() for two in again]
