"""What precedes a Stable-Baselines3 network: VecNormalize, one-hot choices, scaled images, the features extractor."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from gymnasium import spaces
from stable_baselines3.common.preprocessing import is_image_space
from torch import nn


class Features(nn.Module):
    """Named observations → the extractor's features.

    Args:
        part: the part of the policy that takes observations: it has their space, and says whether images are scaled.
        extractor: its features extractor, perhaps the user's own.
        names: of the observations in the policy's space, in the card's order.
        normalisers: observation → the module that replaces VecNormalize.
    """

    def __init__(
        self, part: Any, extractor: nn.Module, names: Sequence[str], normalisers: Mapping[str, nn.Module]
    ) -> None:
        super().__init__()
        space = part.observation_space
        self._keys = tuple(space.spaces) if isinstance(space, spaces.Dict) else None
        boxes = space.spaces if isinstance(space, spaces.Dict) else {names[0]: space}
        self._names = tuple(names)
        self._scaled = tuple(bool(part.normalize_images and is_image_space(boxes[name])) for name in names)
        # A list, since nn.ModuleDict refuses names such as "type", which an observation may have.
        self.normalisers = nn.ModuleList([_prepared(boxes[name], normalisers.get(name)) for name in names])
        self.extractor = extractor

    def forward(self, *observations: torch.Tensor) -> torch.Tensor:
        """Each (B, *shape), float32 or uint8 → (B, F), float32."""
        ready = {}
        for name, scaled, normaliser, array in zip(
            self._names, self._scaled, self.normalisers, observations, strict=True
        ):
            values = normaliser(array).to(torch.float32)
            ready[name] = values / 255.0 if scaled else values
        ready_observations = ready[self._names[0]] if self._keys is None else {key: ready[key] for key in self._keys}
        features: torch.Tensor = self.extractor(ready_observations)
        return features


class OneHot(nn.Module):
    """Choices, whole numbers from 0 → one column for each choice of each element: 1 where it is taken, else 0.

    Args:
        counts: how many choices each element has.
    """

    def __init__(self, counts: Sequence[int]) -> None:
        super().__init__()
        self.register_buffer("element", torch.repeat_interleave(torch.tensor(counts)))
        self.register_buffer("choice", torch.cat([torch.arange(count, dtype=torch.float32) for count in counts]))
        self.element: torch.Tensor
        self.choice: torch.Tensor

    def forward(self, choices: torch.Tensor) -> torch.Tensor:
        """(B,) or (B, E), float32 or uint8 → (B, the sum of counts), float32, as `preprocess_obs` has it."""
        values = choices.reshape(choices.shape[0], -1).to(torch.float32)
        return (torch.index_select(values, 1, self.element) == self.choice).to(torch.float32)


def _prepared(space: Any, normaliser: nn.Module | None) -> nn.Module:
    """What comes before Stable-Baselines3's features extractor for one observation, apart from scaled images."""
    if isinstance(space, spaces.Discrete):
        return OneHot([int(space.n)])
    if isinstance(space, spaces.MultiDiscrete):
        return OneHot(space.nvec.tolist())
    return nn.Identity() if normaliser is None else normaliser
