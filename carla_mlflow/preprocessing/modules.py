"""The modules of a translated preprocessor, on rows of float64 features: (B, F) → (B, F')."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import nn

from ..errors import ExportError


class Select(nn.Module):
    """Selects columns by index, of any dtype; consecutive columns are a view, not a copy."""

    def __init__(self, take: NDArray[np.intp]) -> None:
        super().__init__()
        self._first, self._end = int(take[0]), int(take[0]) + len(take)
        self._neighbours = np.array_equal(take, np.arange(self._first, self._end))
        self.register_buffer("take", None if self._neighbours else torch.from_numpy(take.astype(np.int64)))
        self.take: torch.Tensor

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        return rows[:, self._first : self._end] if self._neighbours else rows.index_select(1, self.take)


class Elementwise(nn.Module):
    """Applies steps such as ("sub", means), one after the other, each with one constant per column."""

    def __init__(self, steps: Sequence[tuple[str, NDArray[np.float64]]]) -> None:
        super().__init__()
        self._operations = tuple(operation for operation, _ in steps)
        for number, (_, constants) in enumerate(steps):
            self.register_buffer(f"constants_{number}", torch.from_numpy(np.array(constants, dtype=np.float64)))

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        for number, operation in enumerate(self._operations):
            rows = getattr(torch, operation)(rows, getattr(self, f"constants_{number}"))
        return rows


class RowNorm(nn.Module):
    """Divides each row by its norm, as scikit-learn's Normalizer: "l1", "l2" or "max"."""

    def __init__(self, norm: str) -> None:
        super().__init__()
        self._norm = norm
        self._tiny = float(10 * np.finfo(np.float64).eps)  # a norm below it counts as zero, in scikit-learn too

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        if self._norm == "l1":
            norms = rows.abs().sum(dim=1, keepdim=True)
        elif self._norm == "l2":
            norms = (rows * rows).sum(dim=1, keepdim=True).sqrt()
        else:
            norms = rows.abs().amax(dim=1, keepdim=True)
        return rows / norms.masked_fill(norms < self._tiny, 1.0)


class SideBySide(nn.Module):
    """Runs every branch on the same rows, and puts the outputs side by side."""

    def __init__(self, branches: Sequence[nn.Module]) -> None:
        super().__init__()
        self.branches = nn.ModuleList(branches)

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        return torch.cat([branch(rows) for branch in self.branches], dim=1)


class Translated(nn.Module):
    """Casts to float64, runs the modules and casts to float32; a leading Select runs before the casts."""

    def __init__(self, modules: Sequence[nn.Module]) -> None:
        super().__init__()
        select_first = len(modules) > 0 and isinstance(modules[0], Select)
        self.select = modules[0] if select_first else nn.Identity()
        self.compute = nn.Sequential(*modules[int(select_first) :])

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """(B, F) → (B, F'), float32."""
        rows: torch.Tensor = self.select(features)
        if len(self.compute) > 0:
            rows = self.compute(rows.to(torch.float64))
        return rows.to(torch.float32)


class Normalise(nn.Module):
    """clip((obs - mean) / sqrt(var + epsilon), -clip, clip), as Stable-Baselines3's VecNormalize.

    It computes in float64, the dtype of VecNormalize's statistics, whatever the observation's dtype, and returns
    float32.
    """

    def __init__(self, mean: ArrayLike, var: ArrayLike, epsilon: float, clip: float) -> None:
        """Takes the statistics of one observation, both of its shape.

        Raises:
            ExportError: mean and variance differ in shape.
        """
        super().__init__()
        shift, variance = np.array(mean, dtype=np.float64), np.asarray(var, dtype=np.float64)
        if shift.shape != variance.shape:
            raise ExportError(f"VecNormalize: a mean of shape {shift.shape}, a variance of shape {variance.shape}")
        self._clip = float(clip)
        self.register_buffer("mean", torch.from_numpy(shift))
        self.register_buffer("scale", torch.from_numpy(np.sqrt(variance + float(epsilon))))
        self.mean: torch.Tensor
        self.scale: torch.Tensor

    def forward(self, observation: torch.Tensor) -> torch.Tensor:
        """(B, *shape) of any dtype → the same shape, float32."""
        normal = (observation.to(torch.float64) - self.mean) / self.scale
        return normal.clamp(-self._clip, self._clip).to(torch.float32)
