"""A policy that hangs on one input, the worst that a broken network can do."""

from __future__ import annotations

import io
from pathlib import Path

import msgspec
import numpy as np
import torch

from benchmarks.two_policies import small_policy, write
from carla_mlflow.artifact.artifact import seal
from carla_mlflow.artifact.golden import read_golden

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
    original = small_policy("1.0.0", 1)
    files = {name: original.files[name] for name in original.card.files}
    golden, network, graph = read_golden(files["golden.npz"], original.card), Hanging().eval(), io.BytesIO()
    torch.jit.save(torch.jit.script(network), graph)
    golden.raw[:] = network(torch.from_numpy(golden.observations["state"])).detach().numpy()
    golden.action[:] = np.clip(golden.raw, [0, 0, -1], [1, 1, 1])
    card = msgspec.structs.replace(original.card, backend="torchscript")
    return write(seal(card, files | {"model.pt": graph.getvalue(), "golden.npz": golden.to_bytes()}), folder)
