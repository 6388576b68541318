"""Reads the model.zip of Stable-Baselines3 and sb3-contrib; identifies its algorithm before anything is unpickled."""

from __future__ import annotations

import json
import re
import warnings
import zipfile
from pathlib import Path
from typing import Any

import stable_baselines3 as sb3

from carla_mlflow.errors import ExportError
from training_export.sources.archives import check_growth
from training_export.sources.importing import missing_code
from training_export.sources.sb3.algorithms import ALGORITHMS, algorithm_of
from training_export.sources.sb3.recurrent import has_actor_lstm
from training_export.sources.untrusted import demand_trust

TRAINING_ONLY: dict[str, Any] = {
    "learning_rate": 1e-3,
    "lr_schedule": None,
    "clip_range": 0.2,
    "clip_range_vf": None,
    "train_freq": 1,
    "n_steps": 1,
    "n_envs": 1,
    "buffer_size": 1,
    "optimize_memory_usage": False,
    "replay_buffer_class": None,
    "replay_buffer_kwargs": {},
    "rollout_buffer_class": None,
    "rollout_buffer_kwargs": {},
    "exploration_schedule": None,
    "action_noise": None,
    "ep_info_buffer": None,
    "ep_success_buffer": None,
    "_last_obs": None,
    "_last_original_obs": None,
    "_last_episode_starts": None,
}
"""Settings that acting does not need, and the values that replace them: so no gigabytes of replay buffer are allocated,
and a schedule that another version of Python pickled does no harm."""

_READ = {"data", "_stable_baselines3_version", "system_info.txt"}
"""The members that are read from a zip before it is trusted."""


def identify(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """A zip's settings, still pickled, and its facts for the card: algorithm and versions. Unpickles nothing.

    Raises:
        ExportError: not a zip of Stable-Baselines3, one that unpacks too large, or an unknown algorithm.
    """
    try:
        check_growth(path)
        with zipfile.ZipFile(path) as archive:
            held = {name: archive.read(name).decode() for name in archive.namelist() if name in _READ}
            settings = json.loads(held["data"])
            if "policy.pth" not in archive.namelist():
                raise KeyError("policy.pth")
            recurrent = has_actor_lstm(archive)
        policy_class = settings["policy_class"]
    except (zipfile.BadZipFile, OSError, ValueError, TypeError, KeyError, RuntimeError, NotImplementedError) as error:
        raise ExportError(
            f"{path.name}: not a policy as Stable-Baselines3's model.save writes it: {_reason(error)}"
        ) from error
    versions = {"stable-baselines3": held.get("_stable_baselines3_version", "").strip()}
    torch_version = re.search(r"PyTorch: (\S+)", held.get("system_info.txt", ""))
    versions["torch"] = torch_version[1] if torch_version else ""
    algorithm = "RecurrentPPO" if recurrent else algorithm_of(settings)
    if algorithm is None:
        raise ExportError(f"{path.name}: {_unknown(policy_class)}")
    known = {name: version for name, version in versions.items() if version}
    return settings, {"algorithm": algorithm, "versions": known}


def _unknown(policy_class: Any) -> str:
    """Why a zip of an algorithm that is not known can't be exported, and what to do."""
    policy = str(policy_class.get("__module__", "") if isinstance(policy_class, dict) else policy_class)
    return (
        f"was saved by none of {', '.join(ALGORITHMS)}, the algorithms that can be exported; its policy class is from "
        f"{policy}; export its network as a torch module (policy.py:build)"
    )


def load_model(path: Path, facts: dict[str, Any], trusted: bool) -> Any:
    """The model on the CPU, its policy in evaluation mode.

    Args:
        path: the zip.
        facts: from `identify`.
        trusted: whether it may be unpickled.

    Raises:
        ExportError: the zip is not trusted, or can't be loaded; says why.
    """
    algorithm = facts["algorithm"]
    demand_trust(path, trusted, f"is a Stable-Baselines3 {algorithm} policy with its spaces and settings pickled")
    kind, policy = ALGORITHMS[algorithm].kind, ALGORITHMS[algorithm].policy
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            model = kind.load(path, device="cpu", custom_objects=TRAINING_ONLY)
        except Exception as error:  # a pickle can raise anything
            first = "".join(f"{_line(warning.message)}; then " for warning in caught[:1])
            saved_by = facts["versions"].get("stable-baselines3", "another version")
            raise ExportError(
                f"{path.name}: can't be loaded: {first}{_reason(error)}; it was saved by Stable-Baselines3 {saved_by} "
                f"and read by {sb3.__version__}{missing_code(error)}"
            ) from error
    if not isinstance(model.policy, policy):
        raise ExportError(f"{path.name}: its policy is a {type(model.policy).__name__}, not a {policy.__name__}")
    model.policy.set_training_mode(False)
    return model


def _reason(error: BaseException) -> str:
    if isinstance(error, KeyError):
        return f"it has no {error}"
    return f"{type(error).__name__}: {_line(error)}" if str(error) else type(error).__name__


def _line(message: object) -> str:
    """The whole message on one line: Stable-Baselines3's warnings have the reason on their second line."""
    return " ".join(str(message).split())[:300]
