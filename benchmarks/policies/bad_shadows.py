"""Policies that are harmless until they see AT, and then do what no shadow should."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.policies.bad_policies import scripted, with_graph
from carla_mlflow import Artifact

AT = 3.375
"""The value of the first field that sets them off; exact in float32."""


class Spinning(torch.nn.Module):
    """The first three values within [0, 1], (B, 3); at AT after minutes of multiplying."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.eye(1024))

    def forward(self, state: torch.Tensor) -> torch.Tensor:
        x = self.weight * 1.0
        if bool((state[:, 0] == 3.375).any()):
            for _ in range(10_000):
                x = torch.mm(x, self.weight)
        return torch.clamp(state[:, :3], 0.0, 1.0) + 0.0 * x[0, 0]


class Eating(torch.nn.Module):
    """The first three values within [0, 1], (B, 3); at AT after writing so many numbers, 4 bytes each."""

    def __init__(self, numbers: int) -> None:
        super().__init__()
        self.numbers: torch.jit.Final[int] = numbers

    def forward(self, state: torch.Tensor) -> torch.Tensor:
        x = torch.zeros(1)
        if bool((state[:, 0] == 3.375).any()):
            x = state[:1, 0].expand(self.numbers).clone()  # not known when the graph is loaded
        return torch.clamp(state[:, :3], 0.0, 1.0) + 0.0 * x[0]


class Holding(torch.nn.Module):
    """The first three values within [0, 1], (B, 3); at AT so many numbers are held, 4 bytes each, for minutes."""

    def __init__(self, numbers: int) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.eye(1024))
        self.numbers: torch.jit.Final[int] = numbers

    def forward(self, state: torch.Tensor) -> torch.Tensor:
        x, held = self.weight * 1.0, torch.zeros(1)
        if bool((state[:, 0] == 3.375).any()):
            held = state[:1, 0].expand(self.numbers).clone()
            for _ in range(10_000):
                x = torch.mm(x, self.weight)
        return torch.clamp(state[:, :3], 0.0, 1.0) + 0.0 * (x[0, 0] + held[0])


def spinning(artifact: Artifact, version: str) -> Artifact:
    """The artifact with a graph that spins at AT."""
    return with_graph(artifact, version, scripted(Spinning()), _within)


def eating(artifact: Artifact, version: str, megabytes: int) -> Artifact:
    """The artifact with a graph that writes so many megabytes in each forward at AT."""
    graph = scripted(Eating(megabytes * 250_000))
    return with_graph(artifact, version, graph, _within)


def holding(artifact: Artifact, version: str, megabytes: int) -> Artifact:
    """The artifact with a graph that holds so many megabytes for minutes at AT."""
    return with_graph(artifact, version, scripted(Holding(megabytes * 250_000)), _within)


def _within(state: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.clip(state[:, :3], 0.0, 1.0)
