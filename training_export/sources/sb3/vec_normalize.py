"""VecNormalize: whether a Stable-Baselines3 policy was trained with it, and with which statistics.

The statistics are not in model.zip, but the last observation of `learn` is, twice: `_last_obs` as the policy saw it,
and `_last_original_obs` before VecNormalize. Algorithms with `shows_normalisation` store the second only
with VecNormalize. The others always store it (without VecNormalize it is an older observation), and so they are
compared to see which statistics fit.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from gymnasium import spaces
from stable_baselines3.common.vec_env import VecNormalize

from carla_mlflow.errors import ExportError
from carla_mlflow.preprocessing.modules import Normalise
from training_export.sources.observation_spaces import SINGLE
from training_export.sources.sb3.algorithms import ALGORITHMS
from training_export.sources.untrusted import read_pickle, read_pickled

CHOOSE = "--vecnormalize FILE gives the statistics, --no-vecnormalize says that observations were not normalised"
USUAL_CLIP = 10.0
"""VecNormalize's default clip range, in standard deviations."""
LAST_OBSERVATION_WITHIN = 0.1
"""Standard deviations: statistics saved some steps after the zip differ by less, those of another policy by more."""


def check_without_statistics(path: Path, algorithm: str, settings: Mapping[str, Any]) -> str:
    """What is assumed about a zip that comes without statistics, in words; unpickles nothing.

    Raises:
        ExportError: it was trained with VecNormalize, or statistics lie beside it; says what to do.
    """
    beside = statistics_beside(path)
    if ALGORITHMS[algorithm].shows_normalisation and settings.get("_last_original_obs") is not None:
        where = f" ({beside[0]} lies beside it)" if beside else ""
        raise ExportError(
            f"{path.name}: was trained with VecNormalize, as it holds an observation from before it; {CHOOSE}{where}"
        )
    if beside:
        raise ExportError(f"{path.name}: {beside[0]} lies beside it: is it this policy's? {CHOOSE}")
    if ALGORITHMS[algorithm].shows_normalisation:
        return ""
    return f"no VecNormalize: a zip of {algorithm} does not record one; --vecnormalize FILE if it was trained with one"


def statistics_beside(path: Path) -> list[Path]:
    """Files that VecNormalize may have saved beside a zip or one folder below, the folder of the zip's name first."""
    files = [
        file
        for pattern in ("*.pkl", "*/*.pkl")
        for file in sorted(path.parent.glob(pattern))
        if re.search("vec_?norm", file.name, re.IGNORECASE)
    ]
    return sorted(files, key=lambda file: file.parent.name != path.stem)


def read_statistics(path: Path, trusted: bool) -> VecNormalize:
    """Reads the file of `VecNormalize.save`; the result has no environment.

    Raises:
        ExportError: it is not trusted, or something else.
    """
    if not path.is_file():
        raise ExportError(f"{path}: there is no such file")
    statistics = read_pickle(path, trusted)
    if not isinstance(statistics, VecNormalize):
        raise ExportError(f"{path.name}: holds a {type(statistics).__name__}, not what VecNormalize.save writes")
    state = vars(statistics)
    # Older versions saved fewer attributes, and looking up a missing one never ends. They normalised every key.
    state.setdefault("class_attributes", {})
    needed = ("norm_obs", "clip_obs", "epsilon", *(("obs_rms",) if state.get("norm_obs") else ()))
    missing = [name for name in needed if name not in state]
    if missing:
        raise ExportError(f"{path.name}: holds a VecNormalize without {', '.join(missing)}; save it again")
    running = state.get("obs_rms")
    state.setdefault("norm_obs_keys", list(running) if isinstance(running, dict) else None)
    return statistics


def check_last_observation(
    path: Path, algorithm: str, settings: Mapping[str, Any], given: Path, statistics: VecNormalize | None
) -> None:
    """Checks that a trusted zip was trained with these statistics, as far as the zip shows it.

    Raises:
        ExportError: the zip shows that it was not.
    """
    if statistics is None or not statistics.norm_obs or settings.get("_last_obs") is None:
        return
    if ALGORITHMS[algorithm].shows_normalisation:
        if settings.get("_last_original_obs") is None:
            raise ExportError(f"{path.name}: was not trained with VecNormalize; leave --vecnormalize {given.name} out")
        return
    try:
        before, seen = (
            read_pickled(base64.b64decode(settings[key][":serialized:"])) for key in ("_last_original_obs", "_last_obs")
        )
        made: Any = statistics.normalize_obs(before)
        pairs = [(made[key], seen[key]) for key in seen] if isinstance(seen, dict) else [(made, seen)]
        apart = max(float(np.abs(np.asarray(one, dtype=np.float64) - other).max()) for one, other in pairs)
    except Exception:  # another version's pickle may be unreadable or not fit: then it shows nothing
        return
    if not apart <= LAST_OBSERVATION_WITHIN:
        raise ExportError(
            f"{path.name}: the last observation of its training, normalised by {given.name}, differs by {apart:.2g} "
            "standard deviations from what the policy saw: the statistics are another policy's, or there were none "
            "(--no-vecnormalize)"
        )


def _stacks(mean: Any, shape: tuple[int, ...]) -> bool:
    """Whether a policy's shape is that of several of the observations that statistics were fitted on."""
    return len(shape) == mean.ndim and all(size % part == 0 for size, part in zip(shape, mean.shape, strict=True))


def normalisers_of(source: str, statistics: VecNormalize, space: Any, boxes: Mapping[str, Any]) -> dict[str, Normalise]:
    """Observation → the module that does what VecNormalize does to it; `source` names the policy in errors.

    Raises:
        ExportError: it was fitted on other observations than the policy takes.
    """
    if not statistics.norm_obs:
        return {}
    obs_rms: Any = statistics.obs_rms
    if isinstance(obs_rms, dict) != isinstance(space, spaces.Dict):
        raise ExportError(
            f"{source}: one of VecNormalize and the policy takes a Dict of observations, the other a Box, as with "
            "older versions of HER; export both as one torch module (policy.py:build)"
        )
    fitted = (
        {key: obs_rms[key] for key in statistics.norm_obs_keys or ()}
        if isinstance(obs_rms, dict)
        else {SINGLE: obs_rms}
    )
    for name, running in fitted.items():
        shape = boxes[name].shape if name in boxes else None
        if running.mean.shape != shape:
            if shape and _stacks(running.mean, shape):
                raise ExportError(
                    f"{source}: VecNormalize was fitted on {name} of single frames, whose zeros VecFrameStack puts "
                    "before the first one after they were normalised; train with VecNormalize around VecFrameStack"
                )
            taken = f"takes it in shape {list(shape)}" if shape is not None else "does not take it"
            raise ExportError(
                f"{source}: VecNormalize was fitted on {name} of shape {list(running.mean.shape)}, the policy "
                f"{taken}; pass the file that was saved with this policy"
            )
    epsilon, clip = statistics.epsilon, statistics.clip_obs
    return {name: Normalise(running.mean, running.var, epsilon, clip) for name, running in fitted.items()}
