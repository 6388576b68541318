"""Policies that take their time, for the tests of what happens to other requests meanwhile."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import torch
from following_support import again
from forging import script, with_files

from benchmarks.policies.two_policies import small_policy, write
from benchmarks.support.requests import http_request
from carla_mlflow import Artifact
from carla_mlflow.artifact.golden import read_golden

HANGS_AT, SLOW_AT = 3.125, 3.25
"""Values of the first field at which the forward pass took longer than --forward-timeout-s, or takes its time."""


class Laborious(torch.nn.Module):
    """Some of its input, after so many needless products; at HANGS_AT minutes of them, at SLOW_AT half a second.

    With products and `by_row` it has few different answers, so that the engine runs it row by row: more rows take
    longer. Otherwise many rows take as long as one.
    """

    def __init__(self, rounds: int, width: int, by_row: bool = True) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.eye(width))
        self.rounds: torch.jit.Final[int] = rounds
        self.by_row: torch.jit.Final[bool] = by_row

    def forward(self, state: torch.Tensor) -> torch.Tensor:
        x = self.weight[0]
        if self.rounds > 0:
            x = self.weight * (1.0 + 0.0 * state.sum())
        for _ in range(self.rounds):
            x = torch.mm(x, self.weight)
        if bool((state == 3.125).any()):
            x = self.weight * 1.0
            for _ in range(10_000):
                x = torch.mm(x, self.weight)
        if bool((state == 3.25).any()):
            x = self.weight * 1.0
            for _ in range(100):
                x = torch.mm(x, self.weight)
        answers = torch.clamp(0.5 + 0.1 * state[:, :3], 0.0, 1.0)
        if self.rounds > 0 and self.by_row:
            answers = torch.round(answers * 4.0) / 4.0
        return answers + 0.0 * x.sum()


def laborious(folder: Path, rounds: int, width: int = 512, by_row: bool = True) -> Path:
    """An artifact of that network, in a new folder; its golden answers are its own. `width`: of the products."""
    return write(_laborious(rounds, width, by_row), folder)


@functools.cache
def _laborious(rounds: int, width: int, by_row: bool) -> Artifact:
    """Once a process: to export takes longer than to write."""
    original = small_policy("1.0.0", 1)
    original = again(original, "1.0.0", backend="torchscript")
    network = Laborious(rounds, width, by_row).eval()
    golden = read_golden(original.files["golden.npz"], original.card)
    raw = network(torch.from_numpy(golden.observations["state"])).detach().numpy()
    golden.raw[:] = raw
    golden.action[:] = np.clip(raw, [0, 0, -1], [1, 1, 1])
    return with_files(original, model_pt=script(network), golden_npz=golden.to_bytes())


def predict_bytes(first: float, **fields: Any) -> bytes:
    body = msgspec.json.encode({"observations": [{"state": [first, *[0.5] * 15]}], **fields})
    return http_request("/predict", body, "application/json")
