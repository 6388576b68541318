"""The algorithms of Stable-Baselines3 and sb3-contrib that can be exported, and how a zip shows which one saved it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import sb3_contrib
import stable_baselines3 as sb3
from sb3_contrib.ars.policies import ARSPolicy
from sb3_contrib.common.maskable.policies import MaskableActorCriticPolicy
from sb3_contrib.common.recurrent.policies import RecurrentActorCriticPolicy
from sb3_contrib.crossq.policies import CrossQPolicy
from sb3_contrib.qrdqn.policies import QRDQNPolicy
from sb3_contrib.tqc.policies import TQCPolicy
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.dqn.policies import DQNPolicy
from stable_baselines3.sac.policies import SACPolicy
from stable_baselines3.td3.policies import TD3Policy


@dataclass(frozen=True)
class Algorithm:
    """One algorithm.

    Attributes:
        kind: its class, which loads the zip.
        policy: the class of policy whose parts we know.
        settings: the names of settings that identify it, of which each algorithm has its own.
        lacks: settings that only a similar algorithm has.
        classes: where its own classes lie, if its settings are another algorithm's; else "".
        is_deterministic: whether its policy has no distribution.
        shows_normalisation: whether a zip keeps `_last_original_obs` only where VecNormalize was used.
    """

    kind: type[BaseAlgorithm]
    policy: type
    settings: frozenset[str]
    lacks: frozenset[str] = frozenset()
    classes: str = ""
    is_deterministic: bool = False
    shows_normalisation: bool = False


def _algorithm(kind: Any, policy: type, settings: str, lacks: str = "", **more: Any) -> Algorithm:
    return Algorithm(kind, policy, frozenset(settings.split()), frozenset(lacks.split()), **more)


ALGORITHMS: dict[str, Algorithm] = {
    "MaskablePPO": _algorithm(
        sb3_contrib.MaskablePPO,
        MaskableActorCriticPolicy,
        "gae_lambda clip_range",
        classes="sb3_contrib.common.maskable",
        shows_normalisation=True,
    ),
    "RecurrentPPO": _algorithm(
        sb3_contrib.RecurrentPPO,
        RecurrentActorCriticPolicy,
        "gae_lambda clip_range",
        classes="sb3_contrib.common.recurrent",
        shows_normalisation=True,
    ),
    "PPO": _algorithm(sb3.PPO, ActorCriticPolicy, "gae_lambda clip_range", shows_normalisation=True),
    "TRPO": _algorithm(sb3_contrib.TRPO, ActorCriticPolicy, "gae_lambda cg_max_steps", shows_normalisation=True),
    "A2C": _algorithm(
        sb3.A2C, ActorCriticPolicy, "gae_lambda vf_coef", "clip_range batch_size", shows_normalisation=True
    ),
    "SAC": _algorithm(sb3.SAC, SACPolicy, "target_entropy", "top_quantiles_to_drop_per_net policy_delay"),
    "TQC": _algorithm(sb3_contrib.TQC, TQCPolicy, "target_entropy top_quantiles_to_drop_per_net"),
    "CrossQ": _algorithm(sb3_contrib.CrossQ, CrossQPolicy, "target_entropy policy_delay"),
    "TD3": _algorithm(sb3.TD3, TD3Policy, "policy_delay target_policy_noise", is_deterministic=True),
    "DDPG": _algorithm(sb3.DDPG, TD3Policy, "policy_delay target_policy_noise", is_deterministic=True),
    "QRDQN": _algorithm(
        sb3_contrib.QRDQN, QRDQNPolicy, "exploration_rate", classes="sb3_contrib.qrdqn", is_deterministic=True
    ),
    "DQN": _algorithm(sb3.DQN, DQNPolicy, "exploration_rate", "n_quantiles", is_deterministic=True),
    "ARS": _algorithm(sb3_contrib.ARS, ARSPolicy, "n_delta n_top", is_deterministic=True, shows_normalisation=True),
}
"""By name; where two have the same settings, that with `classes` of its own comes first."""


def algorithm_of(settings: Mapping[str, Any]) -> str | None:
    """The name of the algorithm that saved a zip's settings, still pickled; None if it is none of ALGORITHMS.

    QR-DQN and MaskablePPO are told by the modules of the classes that their settings name (of the policy, the rollout
    buffer), which Stable-Baselines3 writes beside the pickled class; QR-DQN with a policy of the user's own by
    `n_quantiles`, too.
    """
    modules = [_module(settings.get(key)) for key in ("policy_class", "rollout_buffer_class")]
    for name, each in ALGORITHMS.items():
        own = not each.classes or any(module.startswith(each.classes) for module in modules)
        own = own or (name == "QRDQN" and "n_quantiles" in settings)
        if own and each.settings <= settings.keys() and not each.lacks & settings.keys():
            # Stable-Baselines3's DDPG is its TD3 with the delay and the smoothing of targets turned off.
            plain = settings.get("policy_delay") == 1 and settings.get("target_noise_clip") == 0
            return "DDPG" if name == "TD3" and plain else name
    return None


def _module(described: Any) -> str:
    """The module of a pickled class, from the description that stands beside its bytes; "" for anything else."""
    return str(described.get("__module__", "")) if isinstance(described, dict) else ""
