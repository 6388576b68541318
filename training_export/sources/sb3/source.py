"""A policy that Stable-Baselines3 saved, with VecNormalize's statistics → a TrainedPolicy."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from gymnasium import spaces
from stable_baselines3.common.vec_env import VecNormalize

from carla_mlflow.contract.card_sections import ActionCard, FieldCard, observation_spec
from carla_mlflow.contract.memory import graph_inputs
from carla_mlflow.errors import CardError, ExportError
from carla_mlflow.preprocessing.modules import Normalise
from training_export.graphs.graph import PolicyGraph
from training_export.sources.draft import ActionDraft, CardDraft, complete
from training_export.sources.sb3.answer import Answer
from training_export.sources.sb3.archive import identify, load_model
from training_export.sources.sb3.networks import Network, network_of
from training_export.sources.sb3.recurrent import RecurrentAnswer, lstm_states, with_lstm
from training_export.sources.sb3.vec_normalize import (
    CHOOSE,
    USUAL_CLIP,
    check_last_observation,
    check_without_statistics,
    normalisers_of,
    read_statistics,
)
from training_export.sources.seen import Range, of_moments, with_seen
from training_export.sources.spaces import SINGLE, action_of_space, observation_of_space
from training_export.sources.trained import TrainedPolicy

Boxes = Mapping[str, Any]
Section = dict[str, FieldCard]


class _Normalisation(NamedTuple):
    """VecNormalize's statistics, a module per normalised observation, and the images whose own space it hides."""

    statistics: VecNormalize | None = None
    modules: Mapping[str, Normalise] = {}
    hidden: Collection[str] = ()


def from_sb3(
    path: Path, draft: CardDraft, vecnormalize: Path | None, trust_pickle: bool, no_vecnormalize: bool = False
) -> TrainedPolicy:
    """Reads model.zip, which unpickles it: only if the user trusts it.

    Args:
        path: the file from `model.save` of PPO, A2C, SAC, TD3, DDPG, DQN or RecurrentPPO.
        draft: the author's card; the action section is needed, the observation section overrides the space's bounds.
        vecnormalize: the file from `VecNormalize.save`, or None.
        trust_pickle: whether both may be unpickled.
        no_vecnormalize: whether the user says that there was no VecNormalize.

    Raises:
        ExportError: it is something else, is not trusted, can't be loaded, or can't become a graph.
        CardError: the card is incomplete, or contradicts the policy.
    """
    settings, facts = identify(path)
    algorithm = facts["algorithm"]
    assumed = ""
    if vecnormalize is None and not no_vecnormalize:
        assumed = check_without_statistics(path, algorithm, settings)
    model = load_model(path, facts, trust_pickle)
    space = model.observation_space
    boxes = _boxes(path.name, space)
    normalisation = _Normalisation()
    if vecnormalize is not None:
        normalisation = _read_normalisation(vecnormalize, trust_pickle, space, boxes)
        check_last_observation(path, algorithm, settings, vecnormalize, normalisation.statistics)
    elif not no_vecnormalize:
        _check_images(path.name, boxes)
    section = with_seen(_observation(space, boxes, draft.observation, normalisation.hidden), _seen(normalisation))
    action = _action(model, algorithm, draft.action)
    plain = Answer(path.name, model, normalisation.statistics, action)
    states = lstm_states(path.name, model.policy, section)
    answer = RecurrentAnswer(plain, states) if states else plain
    answer(graph_inputs(observation_spec(section), states).example(2))  # refuses what SB3 can't answer before an export
    network = _network(path.name, model, tuple(section), normalisation.modules)
    return TrainedPolicy(
        graph=PolicyGraph(with_lstm(network, model.policy) if states else network, action, states),
        observation=section,
        action=action,
        answer=answer,
        values=plain.values if algorithm == "DQN" else None,
        assumed=assumed,
        training={**draft.training, **facts, **_steps_and_seed(model)},
        states=states,
    )


def _read_normalisation(path: Path, trusted: bool, space: Any, boxes: Boxes) -> _Normalisation:
    statistics = read_statistics(path, trusted)
    modules = normalisers_of(path.name, statistics, space, boxes)
    hidden = _hidden(statistics.clip_obs, {name: boxes[name] for name in modules})
    return _Normalisation(statistics, modules, hidden)


def _steps_and_seed(model: Any) -> dict[str, int]:
    steps = {"steps": int(model.num_timesteps)}
    return steps if model.seed is None else {**steps, "seed": int(model.seed)}


def _check_images(source: str, boxes: Boxes) -> None:
    images = _hidden(USUAL_CLIP, boxes)
    if images:
        raise ExportError(f"{source}: {', '.join(images)} looks like an image after VecNormalize; {CHOOSE}")


def _network(source: str, model: Any, names: tuple[str, ...], normalisers: Mapping[str, Normalise]) -> Network:
    try:
        return network_of(model, names, normalisers).eval()
    except (AttributeError, TypeError) as error:
        raise ExportError(
            f"{source}: its {type(model.policy).__name__} is not built like Stable-Baselines3's own: {error}; "
            "export its network as a torch module (policy.py:build)"
        ) from error


def _boxes(source: str, space: Any) -> Boxes:
    parts = dict(space.spaces) if isinstance(space, spaces.Dict) else {SINGLE: space}
    for name, part in parts.items():
        if not isinstance(part, spaces.Box):
            raise ExportError(f"{source}: observes {name}, a {type(part).__name__}; only Boxes can be exported")
    return parts


def _seen(normalisation: _Normalisation) -> dict[str, Range]:
    """The ranges in training of the observations that VecNormalize normalises, from its mean and variance."""
    if normalisation.statistics is None or not normalisation.modules:  # it has statistics only of what it normalises
        return {}
    obs_rms: Any = normalisation.statistics.obs_rms
    fitted = obs_rms if isinstance(obs_rms, dict) else {SINGLE: obs_rms}
    return {name: of_moments(fitted[name].mean, np.sqrt(fitted[name].var)) for name in normalisation.modules}


def _hidden(clip: float, boxes: Boxes) -> set[str]:
    """Images whose original space is lost: VecNormalize replaces it by float32 within its clip range."""
    images = {name: box for name, box in boxes.items() if len(box.shape) == 3 and box.dtype == np.float32}
    return {name for name, box in images.items() if (box.low == -clip).all() and (box.high == clip).all()}


def _observation(space: Any, boxes: Boxes, given: Section | None, hidden: Collection[str]) -> Section:
    """The author's section, if it agrees with the policy; without one, the section of the policy's space."""
    if given is None and hidden:
        raise CardError(
            f"observation {', '.join(hidden)}: VecNormalize hid whether it was uint8; pass --card FILE with an "
            "observation section"
        )
    if given is None:
        return observation_of_space(space)
    if set(given) != set(boxes):
        raise CardError(f"observation: the card names {', '.join(given)}; the policy takes {', '.join(boxes)}")
    for name, box in boxes.items():
        own = "uint8" if box.dtype == np.uint8 else "float32"
        dtypes = {own, "uint8"} if name in hidden else {own}
        if given[name].dtype not in dtypes or given[name].shape != list(box.shape):
            raise CardError(
                f"observation {name}: the card says {given[name].dtype}{given[name].shape}, "
                f"the policy takes {own}{list(box.shape)}"
            )
    return given


def _action(model: Any, algorithm: str, draft: ActionDraft | None) -> ActionCard:
    space = model.action_space
    head, bounds, _ = action_of_space(space)
    if isinstance(space, spaces.Discrete):
        entries = len(draft.table or ()) if draft is not None else space.n
        if entries != space.n:
            raise CardError(
                f"action.table: {entries} controls, but the policy chooses among {space.n}; "
                "it needs control: table with one control per choice, in the order of the choices"
            )
    elif bounds is not None:
        # As a person writes them: 0.7 instead of 0.699999988079071, which is the same float32.
        bounds = [(float(str(np.float32(low))), float(str(np.float32(high)))) for low, high in bounds]
        head = "squashed_gaussian" if model.policy.squash_output else "gaussian"
    return complete(draft, "deterministic" if algorithm in {"DQN", "TD3", "DDPG"} else head, bounds)
