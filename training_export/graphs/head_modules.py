"""Heads inside the graph: distribution parameters → the deterministic raw action, as torch modules.

The formulas are those of `carla_mlflow.contract.heads.mode`, with which the exported graph is compared.
"""

from __future__ import annotations

import torch
from torch import nn

from carla_mlflow.contract.action_card import ActionCard


class _Bounded(nn.Module):
    def __init__(self, action: ActionCard) -> None:
        super().__init__()
        low, high = action.bounds
        self.register_buffer("low", torch.from_numpy(low))
        self.register_buffer("high", torch.from_numpy(high))
        self.low: torch.Tensor
        self.high: torch.Tensor

    def _clip(self, values: torch.Tensor) -> torch.Tensor:
        return torch.clamp(values, self.low, self.high)


class Clipped(_Bounded):
    """Clips a deterministic action, or a gaussian's mean, as Stable-Baselines3's `predict` does."""

    def forward(self, mean: torch.Tensor) -> torch.Tensor:
        """(B, A) → (B, A)."""
        return self._clip(mean)


class Squashed(_Bounded):
    """A gaussian's mean after tanh, scaled to the bounds."""

    def forward(self, mean: torch.Tensor) -> torch.Tensor:
        """(B, A) → (B, A)."""
        return self._clip(self.low + 0.5 * (torch.tanh(mean) + 1.0) * (self.high - self.low))


class BetaMode(_Bounded):
    """A Beta's mode with its four cases, scaled to the bounds."""

    def forward(self, alpha: torch.Tensor, beta: torch.Tensor) -> torch.Tensor:
        """(B, A), (B, A) → (B, A)."""
        # Not alpha + beta - 2: see carla_mlflow.contract.heads.
        above = (alpha - 1.0) + (beta - 1.0)
        peak = (alpha - 1.0) / torch.clamp(above, min=torch.finfo(torch.float32).tiny)
        mean = alpha / (alpha + beta)
        at_end = torch.where(alpha > 1.0, 1.0, torch.where(beta > 1.0, 0.0, mean))
        unit = torch.where((alpha > 1.0) & (beta > 1.0), peak, at_end)
        return self._clip(self.low + (self.high - self.low) * unit)


class BetaMean(_Bounded):
    """A Beta's mean, scaled to the bounds."""

    def forward(self, alpha: torch.Tensor, beta: torch.Tensor) -> torch.Tensor:
        """(B, A), (B, A) → (B, A)."""
        return self._clip(self.low + (self.high - self.low) * (alpha / (alpha + beta)))


class Choice(nn.Module):
    """The index of the largest logit, the first of equal ones."""

    def forward(self, logits: torch.Tensor) -> torch.Tensor:
        """(B, K) → (B, 1)."""
        return torch.argmax(logits, dim=1, keepdim=True).to(torch.float32)


class MultiChoice(nn.Module):
    """The index of the largest logit of each categorical distribution, the first of equal ones."""

    def __init__(self, counts: tuple[int, ...]) -> None:
        super().__init__()
        ends = [sum(counts[: at + 1]) for at in range(len(counts))]
        self._parts = tuple(zip([0, *ends[:-1]], ends, strict=True))

    def forward(self, logits: torch.Tensor) -> torch.Tensor:
        """(B, sum of the counts) → (B, A)."""
        chosen = [torch.argmax(logits[:, start:stop], dim=1, keepdim=True) for start, stop in self._parts]
        return torch.cat(chosen, dim=1).to(torch.float32)


class Flags(nn.Module):
    """1 where the logit is above 0, so that 1 is more probable than 0."""

    def forward(self, logits: torch.Tensor) -> torch.Tensor:
        """(B, A) → (B, A)."""
        return (logits > 0.0).to(torch.float32)


def head_module(action: ActionCard) -> nn.Module:
    """The module that turns the head's parameters into the raw action."""
    if action.head == "categorical":
        return Choice()
    if action.head == "multi_categorical":
        return MultiChoice(action.choice_counts)
    if action.head == "bernoulli":
        return Flags()
    if action.head == "beta":
        return BetaMean(action) if action.deterministic == "mean" else BetaMode(action)
    return Squashed(action) if action.head == "squashed_gaussian" else Clipped(action)
