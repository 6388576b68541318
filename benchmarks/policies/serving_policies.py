"""The policies that `benchmarks.serving` has served, and the observations sent to each.

The MLP takes 16 numbers as three fields; the image network takes a bird's eye view of 15 channels and 6 numbers, and
has four convolutions and two linear layers; the LSTM takes 13 numbers, and its two states of 256 numbers travel with
each request and each response.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from benchmarks.policies.networks import FULL_BRAKE, UNIT
from benchmarks.policies.remembering import SECTION, Lstm
from benchmarks.support.encoding import Arrays
from carla_mlflow import Engine, write_artifact
from carla_mlflow.contract.action_card import ActionCard
from carla_mlflow.contract.card_sections import StateCard
from carla_mlflow.contract.field_card import FieldCard
from carla_mlflow.contract.state_token import States, StateTokens
from training_export.export.export import export_policy
from training_export.sources.draft import CardDraft
from training_export.sources.from_module import from_network
from training_export.sources.preprocessed import Preprocessed
from training_export.sources.trained import TrainedPolicy

MAX_ROWS = 256


class ThreeFields(nn.Module):
    """speed, steering and 14 sensors, normalised → 64 → 64 → throttle, brake, steer in [-1, 1]."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.randn(16) * 0.1)
        self.register_buffer("std", torch.rand(16) + 0.5)
        layers = [nn.Linear(16, 64), nn.Tanh(), nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, 3), nn.Tanh()]
        self.layers = nn.Sequential(*layers)

    def forward(self, speed: torch.Tensor, steering: torch.Tensor, sensors: torch.Tensor) -> torch.Tensor:
        """(B,), (B,) and (B, 14) → (B, 3)."""
        state = torch.cat([speed.unsqueeze(1), steering.unsqueeze(1), sensors], dim=1)
        return self.layers((state - self.mean) / self.std)


class FourConvolutions(nn.Module):
    """uint8 (B, 15, 96, 96) and (B, 6) → Beta's alpha and beta, each (B, 2)."""

    def __init__(self) -> None:
        super().__init__()
        widths, kernels = (15, 32, 64, 64, 64), (5, 3, 3, 3)
        layers: list[nn.Module] = []
        for before, after, kernel in zip(widths, widths[1:], kernels, strict=False):
            layers += [nn.Conv2d(before, after, kernel, stride=2), nn.ReLU()]
        self.view = nn.Sequential(*layers, nn.Flatten())
        self.join = nn.Sequential(nn.Linear(64 * 4 * 4 + 6, 256), nn.ReLU(), nn.Linear(256, 4), nn.Softplus())

    def forward(self, bev: torch.Tensor, state: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Both outputs are above 1."""
        parameters = self.join(torch.cat([self.view(bev.to(torch.float32) / 255.0), state], dim=1)) + 1.0
        return parameters[:, :2], parameters[:, 2:]


def mlp() -> TrainedPolicy:
    torch.manual_seed(0)
    section = {
        "speed": FieldCard("float32", [], 0.0, 60.0, "m/s"),
        "steering": FieldCard("float32", [], -1.0, 1.0),
        "sensors": FieldCard("float32", [14], -50.0, 50.0),
    }
    raw = {"throttle": (0.0, 1.0), "brake": (0.0, 1.0), "steer": UNIT}
    action = ActionCard("deterministic", raw, "throttle_brake_steer", 20.0, FULL_BRAKE)
    return from_network("mlp", ThreeFields().eval(), CardDraft(), section, action, Preprocessed())


def image() -> TrainedPolicy:
    torch.manual_seed(0)
    section = {"bev": FieldCard("uint8", [15, 96, 96], 0, 255), "state": FieldCard("float32", [6], -10.0, 10.0)}
    raw = {"acceleration": UNIT, "steer": UNIT}
    action = ActionCard("beta", raw, "acceleration_steer", 10.0, FULL_BRAKE)
    return from_network("image", FourConvolutions().eval(), CardDraft(), section, action, Preprocessed())


def lstm() -> TrainedPolicy:
    torch.manual_seed(0)
    states = {name: StateCard("float32", [256]) for name in ("h", "c")}
    action = ActionCard("gaussian", {"acceleration": UNIT, "steer": UNIT}, "acceleration_steer", 10.0, FULL_BRAKE)
    network = Lstm(hidden=256).eval()
    return from_network("lstm", network, CardDraft(state=states), SECTION, action, Preprocessed())


def mlp_rows(rng: np.random.Generator, rows: int) -> Arrays:
    numbers = (rng.standard_normal((rows, 14)) * 3).astype(np.float32).round(4)
    speed, steering = rng.uniform(0, 30, rows).round(3), rng.uniform(-0.99, 0.99, rows).round(4)
    return {"speed": speed.astype(np.float32), "steering": steering.astype(np.float32), "sensors": numbers}


def image_rows(rng: np.random.Generator, rows: int) -> Arrays:
    """Views with boxes of 255 on 0, like a road drawn from above, and random states."""
    bev = np.zeros((rows, 15, 96, 96), dtype=np.uint8)
    for channel in bev.reshape(-1, 96, 96):
        for top, left in rng.integers(0, 72, (3, 2)):
            height, width = rng.integers(8, 40, 2)
            channel[top : top + height, left : left + width] = 255
    return {"bev": bev, "state": rng.standard_normal((rows, 6)).astype(np.float32).round(4)}


def lstm_rows(rng: np.random.Generator, rows: int) -> Arrays:
    speed, beams = rng.uniform(0, 30, rows).round(3), rng.uniform(0, 1, (rows, 12)).round(4)
    return {"speed": speed.astype(np.float32), "beams": beams.astype(np.float32)}


@dataclass(frozen=True)
class Asked:
    """A policy on disk, observations to request actions for, and its engine in this process.

    Attributes:
        batches: rows per request → the observations of many different requests.
        states: the memory that each of these observations comes with, after one step; of a policy without memory {}.
        tokens: the same as state tokens; without memory ().
    """

    kind: str
    folder: Path
    engine: Engine
    batches: dict[int, list[Arrays]] = field(repr=False)
    states: dict[int, list[States]] = field(repr=False)
    tokens: dict[int, list[Sequence[bytes]]] = field(repr=False)

    @property
    def name(self) -> str:
        return self.engine.card.name


KINDS: dict[str, tuple[Callable[[], TrainedPolicy], Callable[[np.random.Generator, int], Arrays], dict[int, int]]] = {
    "mlp": (mlp, mlp_rows, {1: 3000, MAX_ROWS: 16}),
    "image": (image, image_rows, {1: 64, MAX_ROWS: 2}),
    "lstm": (lstm, lstm_rows, {1: 1000, MAX_ROWS: 4}),
}


def asked(kind: str, folder: Path) -> Asked:
    """Exports a policy below `folder`, with the faster backend here in its card, and draws its observations."""
    build, rows_of, counts = KINDS[kind]
    artifact = export_policy(build(), f"serving-{kind}", "1.0.0", f"the {kind} that servers are compared with").artifact
    path = write_artifact(folder / kind, artifact).path
    rng = np.random.default_rng(1)
    batches = {rows: [rows_of(rng, rows) for _ in range(count)] for rows, count in counts.items()}
    engine = Engine(artifact, "cpu")
    states = {rows: [engine.act(batch).state for batch in drawn] for rows, drawn in batches.items()}
    encode = (
        _without_memory if engine.card.memory is None else StateTokens(engine.digest, engine.card.memory.shapes).encode
    )
    tokens = {n: [encode(state, np.ones(n, np.uint32)) for state in drawn] for n, drawn in states.items()}
    return Asked(kind, path, engine, batches, states, tokens)


def _without_memory(_: States, __: Any) -> Sequence[bytes]:
    return ()
