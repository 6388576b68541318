"""The networks of Stable-Baselines3 and sb3-contrib as one module: named observations → the head's parameters.

Each does what `predict(deterministic=True)` does (VecNormalize, images divided by 255, the features extractor, the
actor), without critics, targets and exploration noise.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from sb3_contrib.ars.policies import ARSPolicy
from stable_baselines3.common.distributions import StateDependentNoiseDistribution
from stable_baselines3.common.torch_layers import MlpExtractor
from stable_baselines3.sac.policies import LOG_STD_MAX, LOG_STD_MIN
from torch import nn

from training_export.graphs.head_modules import Choice
from training_export.sources.sb3.features import Features
from training_export.sources.sb3.section import choice_counts

MASKED = -1e8
"""The logit of an excluded choice, as sb3-contrib's common/maskable/distributions.py has it."""


class Network(nn.Module):
    """Named observations → features → the head's parameters."""

    def __init__(self, features: Features, after: nn.Module) -> None:
        super().__init__()
        self.features = features
        self.after = after

    def forward(self, *observations: torch.Tensor) -> Any:
        """Each (B, *shape) → one (B, width), or a tuple of them."""
        return self.after(self.features(*observations))


class MaskedNetwork(nn.Module):
    """MaskablePPO: a network that gives logits, and the mask among the observations that says which may be chosen.

    As sb3-contrib's MaskableCategorical, it puts MASKED in the place of a logit whose choice the mask excludes. Where
    it excludes every choice, all become equally probable, and the first is the most probable one.

    Args:
        network: the other observations, in order → normalised logits.
        position: of the mask among the observations.
        normalised: logits → normalised logits.
    """

    def __init__(self, network: nn.Module, position: int, normalised: nn.Module) -> None:
        super().__init__()
        self.normalised = normalised
        self.network = network
        self.position = position

    def forward(self, *observations: torch.Tensor) -> torch.Tensor:
        """Each (B, *shape), the mask (B, K) → logits (B, K)."""
        others = observations[: self.position] + observations[self.position + 1 :]
        logits = self.network(*others)
        allowed = observations[self.position] != 0
        masked: torch.Tensor = self.normalised(torch.where(allowed, logits, torch.full_like(logits, MASKED)))
        return masked


class QuantileMean(nn.Module):
    """QR-DQN: quantiles of each choice's return, (B, N * K) → their mean, (B, K)."""

    def __init__(self, quantiles: int, choices: int) -> None:
        super().__init__()
        self.quantiles = quantiles
        self.choices = choices

    def forward(self, quantiles: torch.Tensor) -> torch.Tensor:
        return quantiles.view(-1, self.quantiles, self.choices).mean(dim=1)


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


def network_of(
    model: Any, names: Sequence[str], normalisers: Mapping[str, nn.Module], mask: str | None = None
) -> nn.Module:
    """The network of a loaded model of any of ALGORITHMS.

    Args:
        model: loaded, in evaluation mode, on the CPU.
        names: of the observations in the policy's space, in the card's order.
        normalisers: observation → the module that replaces VecNormalize.
        mask: the observation that says which choices are allowed, with MaskablePPO; not normalised.
    """
    policy = model.policy
    if mask is not None:
        others = [name for name in names if name != mask]
        features = Features(policy, policy.pi_features_extractor, others, normalisers)
        counts = choice_counts(policy.action_space)
        return MaskedNetwork(Network(features, _actor_critic(policy)), names.index(mask), LogSoftmaxes(counts))
    part, extractor, after = _parts(model)
    return Network(Features(part, extractor, names, normalisers), after)


def _parts(model: Any) -> tuple[Any, nn.Module, nn.Module]:
    """The part of a policy that takes observations, its features extractor, and what follows the features."""
    policy, space = model.policy, model.action_space
    if hasattr(policy, "quantile_net"):
        part = policy.quantile_net
        mean = QuantileMean(part.n_quantiles, int(space.n))
        return part, part.features_extractor, nn.Sequential(part.quantile_net, mean, Choice())
    if hasattr(policy, "q_net"):
        return policy.q_net, policy.q_net.features_extractor, nn.Sequential(policy.q_net.q_net, Choice())
    if hasattr(policy, "actor"):
        actor = policy.actor
        after = _squashed(actor) if hasattr(actor, "latent_pi") else nn.Sequential(actor.mu, Stretch(space))
        return actor, actor.features_extractor, after
    if isinstance(policy, ARSPolicy):
        last = (
            Choice()
            if isinstance(space, spaces.Discrete)
            else Stretch(space)
            if policy.squash_output
            else nn.Identity()
        )
        return policy, policy.features_extractor, nn.Sequential(policy.action_net, last)
    return policy, policy.pi_features_extractor, _actor_critic(policy)


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
