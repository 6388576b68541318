"""A policy that hangs on one input, the worst that a broken network can do."""

from __future__ import annotations

from pathlib import Path

import torch

from benchmarks.policies.bad_policies import scripted, with_graph
from benchmarks.policies.two_policies import small_policy, write

HANGS_AT = 3.125
"""The value, anywhere in `state`, at which the policy hangs."""


class Hanging(torch.nn.Module):
    """Sigmoid of the first three values, (B, 3); at HANGS_AT after half a minute of useless matrix products."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.eye(512))

    def forward(self, state: torch.Tensor) -> torch.Tensor:
        raw = torch.sigmoid(state[:, :3])
        if bool((state == 3.125).any()):
            x = self.weight * (1.0 + 0.0 * state.sum())  # depends on the input, or it would be computed at loading
            for _ in range(10_000):
                x = torch.mm(x, self.weight)
            raw = raw + 0.0 * x.sum()
        return raw


def hanging_policy(folder: Path) -> Path:
    """Writes the policy's artifact below `folder`, with golden actions of its own."""
    network = Hanging()
    graph = scripted(network)
    hanging = with_graph(
        small_policy("1.0.0", 1), "1.0.0", graph, lambda state: network(torch.from_numpy(state)).detach().numpy()
    )
    return write(hanging, folder)
