"""The actions that Stable-Baselines3 itself computes for a policy: the reference for the exported graph."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray
from stable_baselines3.common.vec_env import VecNormalize

from carla_mlflow.artifact.golden import Golden
from carla_mlflow.contract.action_card import ActionCard
from carla_mlflow.contract.heads import CHOOSING
from carla_mlflow.errors import ExportError
from training_export.sources.observation_spaces import SINGLE
from training_export.sources.trained import Arrays, control_of

ROWS = 256
"""Observations per call of Stable-Baselines3."""


@dataclass(frozen=True)
class Answer:
    """Computes the actions for observations with Stable-Baselines3 itself.

    Attributes:
        source: the policy's name in errors.
        model: as loaded.
        statistics: VecNormalize, which normalises observations before the policy gets them, or None.
        action: the card's section.
        sources: each observation's name → its name in the policy's space.
        mask: the observation that MaskablePPO gets as `action_masks`, or None.
    """

    source: str
    model: Any
    statistics: VecNormalize | None
    action: ActionCard
    sources: Mapping[str, str]
    mask: str | None = None

    def __call__(self, observations: Arrays) -> Golden:
        """Named arrays, each (B, *shape) → SB3's own action and distribution; ExportError if it returns a state."""
        rows = len(next(iter(observations.values())))
        parts = [self._predict({n: a[at : at + ROWS] for n, a in observations.items()}) for at in range(0, rows, ROWS)]
        raw = np.concatenate([raw for raw, _ in parts])
        distribution = {name: np.concatenate([found[name] for _, found in parts]) for name in parts[0][1]}
        return Golden(dict(observations), raw, distribution, control_of(self.action, raw))

    def values(self, observations: Arrays) -> NDArray[np.float32]:
        """The value of each choice, of which DQN, QR-DQN and ARS take the largest, (B, K)."""
        rows, parts = len(next(iter(observations.values()))), []
        for at in range(0, rows, ROWS):
            seen = self.seen({name: array[at : at + ROWS] for name, array in observations.items()})
            with torch.no_grad():
                parts.append(_values(self.model.policy, self.model.policy.obs_to_tensor(seen)[0]).numpy())
        return np.concatenate(parts)

    def seen(self, observations: Arrays) -> Any:
        """The observations as the policy takes them."""
        space = self.model.observation_space
        given = {source: observations[name] for name, source in self.sources.items()}
        single = not isinstance(space, spaces.Dict)
        seen: Any = given[SINGLE] if single else {key: given[key] for key in space.spaces}
        return seen if self.statistics is None else self.statistics.normalize_obs(seen)

    def _predict(self, observations: Arrays) -> tuple[NDArray[np.float32], dict[str, NDArray[np.float32]]]:
        seen = self.seen(observations)
        try:
            masks = {} if self.mask is None else {"action_masks": observations[self.mask]}
            chosen, state = self.model.predict(seen, deterministic=True, **masks)
            distribution = self._distribution(seen, masks)
        except Exception as error:  # a policy or an extractor of the author's own may raise anything
            raise self.failed(error) from error
        if state is not None:
            raise ExportError(
                f"{self.source}: its predict() returns a state, though it is not RecurrentPPO's policy, the only one "
                "with a memory that can be exported; export its network as a torch module (policy.py:build)"
            )
        return np.asarray(chosen, dtype=np.float32).reshape(len(chosen), -1), distribution

    def failed(self, error: Exception) -> ExportError:
        """The error to raise where the policy fails."""
        reason = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
        return ExportError(f"{self.source}: its predict() fails on observations of its own space: {reason}")

    def _distribution(self, seen: Any, masks: Arrays) -> dict[str, NDArray[np.float32]]:
        policy = self.model.policy
        if self.action.head == "deterministic":
            return {}
        tensors, _ = policy.obs_to_tensor(seen)
        with torch.no_grad():
            if hasattr(policy, "actor"):
                mean, log_std, more = policy.actor.get_action_dist_params(tensors)
                distribution = policy.actor.action_dist.proba_distribution(mean, log_std, **more).distribution
            else:
                found = policy.get_distribution(tensors, **masks)
                distribution = getattr(found, "distributions", None) or found.distribution  # MaskablePPO has several
        return parameters_of(self.action, distribution)


def parameters_of(action: ActionCard, distribution: Any) -> dict[str, NDArray[np.float32]]:
    """The parameters of a torch distribution, or of a list of them, as the head names them."""
    if action.head == "multi_categorical":  # Stable-Baselines3 has a list of torch's
        return {"logits": torch.cat([each.logits for each in distribution], dim=1).numpy()}
    if action.head in CHOOSING:
        return {"logits": distribution.logits.numpy()}
    return {"mean": distribution.mean.numpy(), "std": distribution.stddev.numpy()}


def _values(policy: Any, tensors: Any) -> torch.Tensor:
    if hasattr(policy, "quantile_net"):
        means: torch.Tensor = policy.quantile_net(tensors).mean(dim=1)
        return means
    if hasattr(policy, "q_net"):
        values: torch.Tensor = policy.q_net(tensors)
        return values
    scores: torch.Tensor = policy.action_net(policy.extract_features(tensors, policy.features_extractor))
    return scores
