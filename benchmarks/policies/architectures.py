"""A small untrained policy of every kind that the project supports, each exported as a user's would be."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from sklearn.preprocessing import PolynomialFeatures, StandardScaler
from torch import nn

from benchmarks.policies.algorithms import LIBRARIES
from benchmarks.policies.networks import FULL_BRAKE, NETWORKS, UNIT
from benchmarks.policies.remembering import REMEMBERING
from carla_mlflow.contract.action_card import ActionCard, Control
from carla_mlflow.contract.field_card import FieldCard, observation_spec
from training_export.sources.draft import ActionDraft, CardDraft, complete
from training_export.sources.from_module import from_network
from training_export.sources.preprocessed import Preprocessed, preprocessed
from training_export.sources.trained import TrainedPolicy

SECTION = {
    "speed": FieldCard("float32", [], 0.0, 60.0, "m/s"),
    "sensors": FieldCard("float32", [12], 0.0, [1.0] * 6 + [2.0] * 6),
    "heading": FieldCard("float32", [2], None, None),
}
WIDTH = 15
PEDALS = {"acceleration": UNIT, "steer": (-0.7, 0.7)}
TABLE = [Control(1, 0, 0), Control(0, 1, 0), Control(0.3, 0, -0.5), Control(0.3, 0, 0.5)]


class Single(nn.Module):
    """Named observations → one output, (B, width)."""

    def __init__(self, width: int, features: int = WIDTH) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(features, 32), nn.Tanh(), nn.Linear(32, width))

    def forward(self, speed: torch.Tensor, sensors: torch.Tensor, heading: torch.Tensor) -> torch.Tensor:
        return 2.0 * self.layers(torch.cat([speed.unsqueeze(1) / 30.0, sensors, heading / 10.0], dim=1))


class Gaussian(Single):
    """Named observations → mean and standard deviation, each (B, width)."""

    def __init__(self, width: int, features: int = WIDTH) -> None:
        super().__init__(2 * width, features)

    def forward(
        self, speed: torch.Tensor, sensors: torch.Tensor, heading: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        x = self.layers(torch.cat([speed.unsqueeze(1) / 30.0, sensors, heading / 10.0], dim=1))
        mean, log_std = torch.chunk(2.0 * x, 2, dim=1)
        return mean, torch.exp(log_std.clamp(-5.0, 1.0))


class Beta(Gaussian):
    """Named observations → alpha and beta, each (B, width), both above and below 1."""

    def forward(
        self, speed: torch.Tensor, sensors: torch.Tensor, heading: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        x = self.layers(torch.cat([speed.unsqueeze(1) / 30.0, sensors, heading / 10.0], dim=1))
        one, two = torch.chunk(nn.functional.softplus(3.0 * x), 2, dim=1)
        return one, two


class OnFeatures(nn.Module):
    """A preprocessor's features → mean and standard deviation, each (B, width)."""

    def __init__(self, width: int, features: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(features, 32), nn.Tanh(), nn.Linear(32, 2 * width))

    def forward(self, features: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        mean, log_std = torch.chunk(self.layers(features), 2, dim=1)
        return mean, torch.exp(log_std.clamp(-5.0, 1.0))


def of_head(head: str, deterministic: str = "mode") -> TrainedPolicy:
    torch.manual_seed(5)
    action = ActionCard(head, PEDALS, "acceleration_steer", 10.0, FULL_BRAKE, deterministic, full_right=-0.7)
    network = {"deterministic": Single, "beta": Beta}.get(head, Gaussian)(2).eval()
    return from_network(head, network, CardDraft(), SECTION, action, Preprocessed())


def categorical() -> TrainedPolicy:
    torch.manual_seed(6)
    action = ActionCard("categorical", {"choice": (0, 3)}, "table", 10.0, FULL_BRAKE, table=TABLE)
    return from_network("categorical", Single(4).eval(), CardDraft(), SECTION, action, Preprocessed())


def without_pedals(head: str, width: int, **parts: Any) -> TrainedPolicy:
    torch.manual_seed(9)
    action = complete(ActionDraft(head=head, **parts))
    network = (Gaussian if head in ("gaussian", "squashed_gaussian") else Single)(width).eval()
    return from_network(head, network, CardDraft(), SECTION, action, Preprocessed())


LABELLED = {"control": "named", "choices": ["LEFT", "IDLE", "RIGHT"], "fallback": {"choice": "IDLE"}}
SWITCHES = {
    "control": "named",
    "raw": {"gear": (0.0, 2.0), "lights": (0.0, 1.0)},
    "choices": {"gear": ["reverse", "first", "second"]},
    "fallback": {"gear": "first", "lights": 1.0},
}
FLAGS = {
    "control": "named",
    "raw": {"horn": (0.0, 1.0), "wipers": (0.0, 1.0)},
    "fallback": {"horn": 0.0, "wipers": 1.0},
}
FREE = {"control": "named", "raw": {"longitudinal": (-5.0, 3.0), "lateral": UNIT}}
FREE["fallback"] = {"longitudinal": -5.0, "lateral": 0.0}
FASTER = {"control": "acceleration", "raw": {"acceleration": (-8.0, 3.0)}, "full_throttle": 3.0, "full_brake": -8.0}
STEERS = {"control": "steer", "raw": {"steer": (-0.7, 0.7)}, "full_right": -0.7}


def three_pedals() -> TrainedPolicy:
    torch.manual_seed(7)
    raw = {"steer": UNIT, "throttle": UNIT, "brake": (0.0, 1.0)}
    action = ActionCard("gaussian", raw, "throttle_brake_steer", 10.0, FULL_BRAKE, full_throttle=1.0)
    return from_network("pedals", Gaussian(3).eval(), CardDraft(), SECTION, action, Preprocessed())


def behind(transformer) -> TrainedPolicy:
    torch.manual_seed(8)
    specs = observation_spec(SECTION)
    rng = np.random.default_rng(0)
    rows = np.concatenate([spec.sample(rng, 500).reshape(500, -1) for spec in specs], axis=1)
    prepared = preprocessed(transformer.fit(rows), specs)
    width = transformer.transform(rows[:1]).shape[1]
    action = ActionCard("squashed_gaussian", PEDALS, "acceleration_steer", 10.0, FULL_BRAKE, full_right=0.7)
    network = OnFeatures(2, width).eval()
    return from_network("behind", network, CardDraft(), SECTION, action, prepared)


ARCHITECTURES = {
    **NETWORKS,
    **LIBRARIES,
    "deterministic": lambda: of_head("deterministic"),
    "gaussian": lambda: of_head("gaussian"),
    "squashed gaussian": lambda: of_head("squashed_gaussian"),
    "beta's mode": lambda: of_head("beta"),
    "beta's mean": lambda: of_head("beta", "mean"),
    "categorical with a table": categorical,
    "throttle, brake and steer": three_pedals,
    "acceleration alone": lambda: without_pedals("gaussian", 1, **FASTER),
    "steering alone": lambda: without_pedals("squashed_gaussian", 1, **STEERS),
    "named values": lambda: without_pedals("gaussian", 2, **FREE),
    "a choice with labels": lambda: without_pedals("categorical", 3, **LABELLED),
    "several choices": lambda: without_pedals("multi_categorical", 5, **SWITCHES),
    "flags": lambda: without_pedals("bernoulli", 2, **FLAGS),
    "scaler in the graph": lambda: behind(StandardScaler()),
    "polynomial features outside the graph": lambda: behind(PolynomialFeatures(2)),
    **REMEMBERING,
}
