"""Untrained policies with a memory, exported as a user's would be."""

from __future__ import annotations

import torch
from torch import nn

from benchmarks.policies.networks import FULL_BRAKE, UNIT
from carla_mlflow.contract.action_card import ActionCard, Control
from carla_mlflow.contract.card_sections import StateCard
from carla_mlflow.contract.field_card import FieldCard
from training_export.sources.draft import CardDraft
from training_export.sources.from_module import from_network
from training_export.sources.preprocessed import Preprocessed
from training_export.sources.trained import TrainedPolicy

SECTION = {"speed": FieldCard("float32", [], 0.0, 60.0, "m/s"), "beams": FieldCard("float32", [12], 0.0, 1.0)}
TURNS = [Control(1, 0, 0), Control(0, 1, 0), Control(0.3, 0, -0.5), Control(0.3, 0, 0.5)]
PEDALS = {"acceleration": UNIT, "steer": UNIT}


class Lstm(nn.Module):
    """Named observations and an LSTM's two states → mean, standard deviation and the next states."""

    def __init__(self, hidden: int = 64, width: int = 2, features: int = 13) -> None:
        super().__init__()
        self.cell = nn.LSTMCell(features, hidden)
        self.mean = nn.Linear(hidden, width)
        self.log_std = nn.Parameter(torch.full((width,), -0.5))

    def forward(
        self, speed: torch.Tensor, beams: torch.Tensor, h: torch.Tensor, c: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
        """(B,), (B, 12), (B, H), (B, H) → (B, A), (B, A), (B, H), (B, H)."""
        h, c = self.cell(torch.cat([speed.unsqueeze(1) / 30.0, beams], dim=1), (h, c))
        mean = 3.0 * self.mean(h)
        return mean, self.log_std.exp().expand_as(mean), h, c


class Gru(nn.Module):
    """An image and a GRU's state, two layers → logits and the next state."""

    def __init__(self, hidden: int = 32, choices: int = 4) -> None:
        super().__init__()
        self.view = nn.Sequential(nn.Conv2d(3, 8, 8, stride=4), nn.ReLU(), nn.Conv2d(8, 8, 3, stride=2), nn.Flatten())
        self.cells = nn.ModuleList([nn.GRUCell(8 * 3 * 3, hidden), nn.GRUCell(hidden, hidden)])
        self.choose = nn.Linear(hidden, choices)

    def forward(self, view: torch.Tensor, memory: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """uint8 (B, 3, 36, 36), (B, 2, H) → (B, K), (B, 2, H)."""
        seen = self.view(view.to(torch.float32) / 255.0)
        layers = []
        for index, cell in enumerate(self.cells):
            seen = cell(seen, memory[:, index])
            layers.append(seen)
        return 20.0 * self.choose(seen), torch.stack(layers, dim=1)


def lstm() -> TrainedPolicy:
    """LSTM-64 that begins with states other than 0; gaussian."""
    torch.manual_seed(11)
    states = {"h": StateCard("float32", [64], 0.25), "c": StateCard("float32", [64], [0.01 * i for i in range(64)])}
    action = ActionCard("gaussian", PEDALS, "acceleration_steer", 10.0, FULL_BRAKE)
    return from_network("lstm", Lstm().eval(), CardDraft(state=states), SECTION, action, Preprocessed())


def gru_of_images() -> TrainedPolicy:
    """Two layers of a GRU behind a convolution; categorical, with a table."""
    torch.manual_seed(12)
    states = {"memory": StateCard("float32", [2, 32])}
    action = ActionCard("categorical", {"choice": (0, 3)}, "table", 10.0, FULL_BRAKE, table=TURNS)
    section = {"view": FieldCard("uint8", [3, 36, 36], 0, 255)}
    return from_network("gru", Gru().eval(), CardDraft(state=states), section, action, Preprocessed())


REMEMBERING = {"LSTM": lstm, "GRU of images with a table": gru_of_images}
