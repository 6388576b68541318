"""Untrained networks with the shapes of published driving policies, exported like any other: for benchmarks and tests.

Roach (Zhang et al., ICCV 2021) and CaRL (Jaeger et al., 2025) take a bird's eye view as uint8 channels and a few
numbers, and output a Beta distribution; they order their actions differently.
"""

from __future__ import annotations

import torch
from torch import nn

from carla_mlflow.contract.action_card import ActionCard
from carla_mlflow.contract.field_card import FieldCard
from training_export.sources.draft import CardDraft
from training_export.sources.from_module import from_network
from training_export.sources.preprocessed import Preprocessed
from training_export.sources.trained import TrainedPolicy

FULL_BRAKE: dict[str, float | str] = {"throttle": 0.0, "brake": 1.0, "steer": 0.0}
UNIT = (-1.0, 1.0)


class Mlp(nn.Module):
    """16 numbers → 64 → 64 → throttle, brake, steer."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(16, 64), nn.Tanh(), nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, 3))

    def forward(self, state: torch.Tensor) -> torch.Tensor:
        """(B, 16) → (B, 3)."""
        return self.layers(state)


class BirdsEye(nn.Module):
    """uint8 (B, C, S, S) and (B, V) → Beta's alpha and beta, each (B, 2)."""

    def __init__(self, channels: int, size: int, values: int) -> None:
        super().__init__()
        widths, kernels = (8, 16, 32, 64, 128), (5, 5, 5, 3, 3)
        layers: list[nn.Module] = []
        for before, after, kernel in zip((channels, *widths), widths, kernels, strict=False):
            layers += [nn.Conv2d(before, after, kernel, stride=2), nn.ReLU()]
            size = (size - kernel) // 2 + 1
        self.view = nn.Sequential(*layers, nn.Flatten())
        self.join = nn.Sequential(nn.Linear(128 * size * size + values, 256), nn.ReLU(), nn.Linear(256, 4))

    def forward(self, bev: torch.Tensor, state: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Both outputs are positive, above and below 1, so that all four cases of the Beta mode occur."""
        seen = self.view(bev.to(torch.float32) / 255.0)
        parameters = nn.functional.softplus(4.0 * self.join(torch.cat([seen, state], dim=1)))
        return parameters[:, :2], parameters[:, 2:]


class SmallView(nn.Module):
    """uint8 (B, 4, 64, 64) and (B, 3) → mean and standard deviation, each (B, 2)."""

    def __init__(self) -> None:
        super().__init__()
        self.view = nn.Sequential(nn.Conv2d(4, 8, 8, stride=4), nn.ReLU(), nn.Conv2d(8, 8, 3, stride=2), nn.Flatten())
        self.join = nn.Linear(8 * 7 * 7 + 3, 4)

    def forward(self, bev: torch.Tensor, state: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The mean is that before tanh."""
        seen = self.view(bev.to(torch.float32) / 255.0)
        mean, log_std = torch.chunk(self.join(torch.cat([seen, state], dim=1)), 2, dim=1)
        return mean, torch.exp(log_std)


def mlp() -> TrainedPolicy:
    """A deterministic 16-64-64-3 policy: 16 numbers → throttle, brake, steer."""
    torch.manual_seed(0)
    section = {"state": FieldCard("float32", [16], -5.0, 5.0)}
    raw = {"throttle": (0.0, 1.0), "brake": (0.0, 1.0), "steer": UNIT}
    return _policy(Mlp(), section, ActionCard("deterministic", raw, "throttle_brake_steer", 20.0, FULL_BRAKE))


def roach_like(size: int = 192) -> TrainedPolicy:
    """uint8 15×192×192 (or a smaller square) and 6 numbers; Beta's mode; [acceleration, steer]."""
    torch.manual_seed(1)
    section = {"bev": FieldCard("uint8", [15, size, size], 0, 255), "state": FieldCard("float32", [6], -10.0, 10.0)}
    raw = {"acceleration": UNIT, "steer": UNIT}
    return _policy(BirdsEye(15, size, 6), section, ActionCard("beta", raw, "acceleration_steer", 10.0, FULL_BRAKE))


def carl_like() -> TrainedPolicy:
    """uint8 10×256×256 and 8 numbers; Beta's mean; [steer, acceleration]."""
    torch.manual_seed(2)
    section = {"bev": FieldCard("uint8", [10, 256, 256], 0, 255), "state": FieldCard("float32", [8], -10.0, 10.0)}
    raw = {"steer": UNIT, "acceleration": UNIT}
    action = ActionCard("beta", raw, "acceleration_steer", 10.0, FULL_BRAKE, "mean")
    return _policy(BirdsEye(10, 256, 8), section, action)


def small_view() -> TrainedPolicy:
    """The smallest policy with an image: uint8 4×64×64 and 3 numbers; squashed Gaussian."""
    torch.manual_seed(3)
    section = {"bev": FieldCard("uint8", [4, 64, 64], 0, 255), "state": FieldCard("float32", [3], -1.0, 1.0)}
    raw = {"acceleration": UNIT, "steer": UNIT}
    return _policy(SmallView(), section, ActionCard("squashed_gaussian", raw, "acceleration_steer", 10.0, FULL_BRAKE))


def _policy(network: nn.Module, section: dict[str, FieldCard], action: ActionCard) -> TrainedPolicy:
    return from_network(type(network).__name__, network.eval(), CardDraft(), section, action, Preprocessed())


NETWORKS = {"MLP 16-64-64-3": mlp, "Roach-like BEV 15×192×192": roach_like, "CaRL-like BEV 10×256×256": carl_like}
