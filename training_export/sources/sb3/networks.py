"""Stable-Baselines3's networks as one module: named observations → the head's parameters.

Each does what `predict(deterministic=True)` does (VecNormalize, images divided by 255, the features extractor, the
actor), without critics, targets and exploration noise.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.distributions import StateDependentNoiseDistribution
from stable_baselines3.common.preprocessing import is_image_space
from stable_baselines3.common.torch_layers import MlpExtractor
from stable_baselines3.sac.policies import LOG_STD_MAX, LOG_STD_MIN
from torch import nn

from training_export.graphs.head_modules import Choice


class Features(nn.Module):
    """Named observations → the extractor's features.

    Args:
        part: the part of the policy that takes observations: it has their space, and says whether images are scaled.
        extractor: its features extractor, perhaps the user's own.
        names: of the observations, in the card's order.
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
        self.normalisers = nn.ModuleList([normalisers.get(name, nn.Identity()) for name in names])
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


class Network(nn.Module):
    """Named observations → features → the head's parameters."""

    def __init__(self, features: Features, after: nn.Module) -> None:
        super().__init__()
        self.features = features
        self.after = after

    def forward(self, *observations: torch.Tensor) -> Any:
        """Each (B, *shape) → one (B, width), or a tuple of them."""
        return self.after(self.features(*observations))


class Gaussian(nn.Module):
    """Features → mean and standard deviation, each (B, A)."""

    def __init__(self, latent: nn.Module, mean: nn.Module, std: nn.Module) -> None:
        super().__init__()
        self.latent = latent
        self.mean = mean
        self.std = std

    def forward(self, features: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        latent = self.latent(features)
        mean = self.mean(latent)
        return mean, self.std(latent, mean)


class SameStd(nn.Module):
    """PPO and A2C: one learnt standard deviation per dimension, the same for all observations."""

    def __init__(self, log_std: torch.Tensor) -> None:
        super().__init__()
        self.register_buffer("std", log_std.detach().exp())
        self.std: torch.Tensor

    def forward(self, _latent: torch.Tensor, mean: torch.Tensor) -> torch.Tensor:
        return self.std.expand_as(mean)


class LearntStd(nn.Module):
    """SAC: a separate layer gives the logarithm of the standard deviation, clamped as Stable-Baselines3 clamps it."""

    def __init__(self, log_std: nn.Module) -> None:
        super().__init__()
        self.log_std = log_std

    def forward(self, latent: torch.Tensor, _mean: torch.Tensor) -> torch.Tensor:
        return torch.clamp(self.log_std(latent), LOG_STD_MIN, LOG_STD_MAX).exp()


class NoiseStd(nn.Module):
    """gSDE (use_sde): the standard deviation of noise that depends on the latent features."""

    def __init__(self, distribution: StateDependentNoiseDistribution, log_std: torch.Tensor) -> None:
        super().__init__()
        self.register_buffer("variance", distribution.get_std(log_std.detach()) ** 2)
        self.variance: torch.Tensor
        self._epsilon = distribution.epsilon

    def forward(self, latent: torch.Tensor, _mean: torch.Tensor) -> torch.Tensor:
        return torch.sqrt(torch.matmul(latent**2, self.variance) + self._epsilon)


class LogSoftmaxes(nn.Module):
    """Normalises the logits of several categorical distributions, which lie side by side."""

    def __init__(self, counts: Sequence[int]) -> None:
        super().__init__()
        ends = np.cumsum(counts).tolist()
        self._parts = tuple(zip([0, *ends[:-1]], ends, strict=True))

    def forward(self, logits: torch.Tensor) -> torch.Tensor:
        """(B, sum of the counts) → the same shape."""
        return torch.cat([torch.log_softmax(logits[:, start:stop], dim=1) for start, stop in self._parts], dim=1)


class ActorPart(nn.Module):
    """The actor's half of the user's own mlp_extractor."""

    def __init__(self, extractor: Any) -> None:
        super().__init__()
        self.extractor = extractor

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        latent: torch.Tensor = self.extractor.forward_actor(features)
        return latent


class Stretch(nn.Module):
    """Scales an action in [-1, 1], (B, A), to the space's bounds, as Stable-Baselines3's `unscale_action`."""

    def __init__(self, space: spaces.Box) -> None:
        super().__init__()
        self.register_buffer("low", torch.from_numpy(np.ravel(space.low)))
        self.register_buffer("high", torch.from_numpy(np.ravel(space.high)))
        self.low: torch.Tensor
        self.high: torch.Tensor

    def forward(self, scaled: torch.Tensor) -> torch.Tensor:
        return self.low + (0.5 * (scaled + 1.0) * (self.high - self.low))


def network_of(model: Any, names: Sequence[str], normalisers: Mapping[str, nn.Module]) -> Network:
    """The network of a loaded PPO, A2C, SAC, TD3, DDPG or DQN.

    Args:
        model: loaded, in evaluation mode, on the CPU.
        names: of the observations, in the card's order.
        normalisers: observation → the module that replaces VecNormalize.
    """
    policy = model.policy
    if hasattr(policy, "q_net"):
        return Network(
            Features(policy.q_net, policy.q_net.features_extractor, names, normalisers),
            nn.Sequential(policy.q_net.q_net, Choice()),
        )
    if hasattr(policy, "actor"):
        actor = policy.actor
        after = (
            _squashed(actor) if hasattr(actor, "latent_pi") else nn.Sequential(actor.mu, Stretch(model.action_space))
        )
        return Network(Features(actor, actor.features_extractor, names, normalisers), after)
    return Network(Features(policy, policy.pi_features_extractor, names, normalisers), _actor_critic(policy))


def _squashed(actor: Any) -> nn.Module:
    std = NoiseStd(actor.action_dist, actor.log_std) if actor.use_sde else LearntStd(actor.log_std)
    return Gaussian(actor.latent_pi, actor.mu, std)


def _actor_critic(policy: Any) -> nn.Module:
    own = policy.mlp_extractor
    latent = own.policy_net if type(own) is MlpExtractor else ActorPart(own)
    if isinstance(policy.action_space, spaces.Discrete):
        # torch's Categorical, to which Stable-Baselines3 passes the logits, normalises them.
        return nn.Sequential(latent, policy.action_net, nn.LogSoftmax(dim=1))
    if isinstance(policy.action_space, spaces.MultiDiscrete):
        return nn.Sequential(latent, policy.action_net, LogSoftmaxes(policy.action_space.nvec.tolist()))
    if isinstance(policy.action_space, spaces.MultiBinary):
        return nn.Sequential(latent, policy.action_net)
    std = NoiseStd(policy.action_dist, policy.log_std) if policy.use_sde else SameStd(policy.log_std)
    return Gaussian(latent, policy.action_net, std)
