"""Statistics of a dataset's features as LeRobot normalizes by them: min, max, mean, std and count."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Stats = dict[str, list[Any]]


class FeatureStats:
    """Collects one feature's statistics, element by element; of an image by channel, in [0, 1]."""

    def __init__(self, is_image: bool = False) -> None:
        self._is_image = is_image
        self._count = 0
        self._values = 0
        self._sum: NDArray[np.float64] = np.zeros(1)
        self._squares: NDArray[np.float64] = np.zeros(1)
        self._min: NDArray[np.float64] = np.full(1, np.inf)
        self._max: NDArray[np.float64] = np.full(1, -np.inf)

    def add(self, values: NDArray[Any]) -> None:
        """Counts values (B, …); images uint8 (B, C, H, W)."""
        self._count += len(values)
        data = values.astype(np.float64)
        if self._is_image:
            data = np.moveaxis(data / 255.0, 1, 3).reshape(-1, data.shape[1])
        data = data.reshape(len(data), -1) if data.ndim == 1 else data
        self._values += len(data)
        self._sum = self._sum + data.sum(axis=0)
        self._squares = self._squares + (data**2).sum(axis=0)
        self._min, self._max = np.minimum(self._min, data.min(axis=0)), np.maximum(self._max, data.max(axis=0))

    def merge(self, other: FeatureStats) -> None:
        """Adds what another one of the same feature has counted."""
        self._count, self._values = self._count + other._count, self._values + other._values
        self._sum, self._squares = self._sum + other._sum, self._squares + other._squares
        self._min, self._max = np.minimum(self._min, other._min), np.maximum(self._max, other._max)

    def found(self) -> Stats:
        """The statistics; of an image each with shape (C, 1, 1)."""
        mean = self._sum / max(1, self._values)
        std = np.sqrt(np.maximum(self._squares / max(1, self._values) - mean**2, 0.0))
        told = {"min": self._min, "max": self._max, "mean": mean, "std": std}
        shaped = {key: value[:, None, None] if self._is_image else value for key, value in told.items()}
        return {key: value.tolist() for key, value in shaped.items()} | {"count": [self._count]}
