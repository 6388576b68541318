"""A policy that Stable-Baselines3 or sb3-contrib saved, with VecNormalize's statistics → a TrainedPolicy."""

from __future__ import annotations

import functools
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from gymnasium import spaces
from stable_baselines3.common.vec_env import VecNormalize
from torch import nn

from carla_mlflow.contract.action_card import ActionCard
from carla_mlflow.contract.control_kinds import NAMED
from carla_mlflow.contract.field_card import observation_spec
from carla_mlflow.contract.memory import graph_inputs
from carla_mlflow.errors import ExportError
from carla_mlflow.preprocessing.modules import Normalise
from training_export.graphs.graph import PolicyGraph
from training_export.sources.draft import ActionDraft, CardDraft, OtherActionsError, complete
from training_export.sources.observation_spaces import SINGLE, parts_of, sources_of
from training_export.sources.sb3.algorithms import ALGORITHMS
from training_export.sources.sb3.answer import Answer
from training_export.sources.sb3.archive import identify, load_model
from training_export.sources.sb3.networks import network_of
from training_export.sources.sb3.recurrent import RecurrentAnswer, lstm_states, with_lstm
from training_export.sources.sb3.section import (
    Boxes,
    check_starts,
    choice_counts,
    hidden_images,
    mask_of,
    observation_section,
    with_a_choice,
)
from training_export.sources.sb3.vec_normalize import (
    CHOOSE,
    USUAL_CLIP,
    check_last_observation,
    check_without_statistics,
    normalisers_of,
    read_statistics,
)
from training_export.sources.seen import Range, of_moments, with_seen
from training_export.sources.spaces import action_of_space
from training_export.sources.trained import TrainedPolicy


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
        path: the file from `model.save` of one of ALGORITHMS.
        draft: the author's card; the action section is needed, the observation section overrides the space's bounds.
        vecnormalize: the file from `VecNormalize.save`, or None.
        trust_pickle: whether both may be unpickled.
        no_vecnormalize: whether the user says that there was no VecNormalize.

    Raises:
        ExportError: it is something else, is not trusted, can't be loaded, or can't become a graph.
        CardError: the card is incomplete, or contradicts the policy.
    """
    settings, facts = identify(path)
    algorithm, known = facts["algorithm"], ALGORITHMS[facts["algorithm"]]
    assumed = ""
    if vecnormalize is None and not no_vecnormalize:
        assumed = check_without_statistics(path, algorithm, settings)
    model = load_model(path, facts, trust_pickle)
    space = model.observation_space
    parts = parts_of(space)
    check_starts(path.name, parts, model.action_space)
    normalisation = _Normalisation()
    if vecnormalize is not None:
        normalisation = _read_normalisation(vecnormalize, trust_pickle, space, parts)
        check_last_observation(path, algorithm, settings, vecnormalize, normalisation.statistics)
    elif not no_vecnormalize:
        _check_images(path.name, parts)
    mask = mask_of(path.name, model, parts)
    section = observation_section(parts | mask, draft.observation, normalisation.hidden)
    names, masked = {source: name for name, source in sources_of(section).items()}, next(iter(mask), None)
    section = with_seen(section, {names[source]: seen for source, seen in _seen(normalisation).items()})
    action = _action(model, known.is_deterministic, draft.action)
    plain = Answer(path.name, model, normalisation.statistics, action, sources_of(section), masked and names[masked])
    states = lstm_states(path.name, model.policy, section)
    answer = RecurrentAnswer(plain, states) if states else plain
    answer(graph_inputs(observation_spec(section), states).example(2))  # refuses what SB3 can't answer before an export
    network = _network(path.name, model, tuple(names), normalisation.modules, masked)
    valid = (
        None if masked is None else functools.partial(with_a_choice, names[masked], choice_counts(model.action_space))
    )
    return TrainedPolicy(
        graph=PolicyGraph(with_lstm(network, model.policy) if states else network, action, states),
        observation=section,
        action=action,
        answer=answer,
        values=plain.values if known.is_deterministic and action.choice_counts else None,
        assumed=assumed,
        valid=valid,
        training={**draft.training, **facts, **_steps_and_seed(model)},
        states=states,
    )


def _read_normalisation(path: Path, trusted: bool, space: Any, boxes: Boxes) -> _Normalisation:
    statistics = read_statistics(path, trusted)
    modules = normalisers_of(path.name, statistics, space, boxes)
    hidden = hidden_images(statistics.clip_obs, {name: boxes[name] for name in modules})
    return _Normalisation(statistics, modules, hidden)


def _steps_and_seed(model: Any) -> dict[str, int]:
    steps = {"steps": int(model.num_timesteps)}
    return steps if model.seed is None else {**steps, "seed": int(model.seed)}


def _check_images(source: str, boxes: Boxes) -> None:
    images = hidden_images(USUAL_CLIP, boxes)
    if images:
        raise ExportError(f"{source}: {', '.join(images)} looks like an image after VecNormalize; {CHOOSE}")


def _network(
    source: str, model: Any, names: tuple[str, ...], normalisers: Mapping[str, Normalise], mask: str | None
) -> nn.Module:
    try:
        return network_of(model, names, normalisers, mask).eval()
    except (AttributeError, TypeError) as error:
        raise ExportError(
            f"{source}: its {type(model.policy).__name__} is not built like Stable-Baselines3's own: {error}; "
            "export its network as a torch module (policy.py:build)"
        ) from error


def _seen(normalisation: _Normalisation) -> dict[str, Range]:
    """The ranges in training of the observations that VecNormalize normalises, from its mean and variance."""
    if normalisation.statistics is None or not normalisation.modules:  # it has statistics only of what it normalises
        return {}
    obs_rms: Any = normalisation.statistics.obs_rms
    fitted = obs_rms if isinstance(obs_rms, dict) else {SINGLE: obs_rms}
    return {name: of_moments(fitted[name].mean, np.sqrt(fitted[name].var)) for name in normalisation.modules}


def _action(model: Any, is_deterministic: bool, draft: ActionDraft | None) -> ActionCard:
    space = model.action_space
    head, bounds, named = action_of_space(space)
    if isinstance(space, spaces.Discrete):
        _check_choices(draft, int(space.n))
    elif isinstance(space, spaces.Box) and bounds is not None:
        # As a person writes them: 0.7 instead of 0.699999988079071, which is the same float32.
        bounds = [(float(str(np.float32(low))), float(str(np.float32(high)))) for low, high in bounds]
        head = "squashed_gaussian" if model.policy.squash_output else "gaussian"
    return complete(named(draft), "deterministic" if is_deterministic else head, bounds)


def _check_choices(draft: ActionDraft | None, count: int) -> None:
    """Raises CardError unless the author's section has a control or a label for each of the policy's choices."""
    if draft is None or draft.control == NAMED:
        entries = len(draft.choices) if draft is not None and isinstance(draft.choices, list) else count
        if entries != count:
            raise OtherActionsError(
                f"action.choices: {entries} labels, but the policy chooses among {count}", f"{count} choices"
            )
    elif len(draft.table or ()) != count:
        raise OtherActionsError(
            f"action.table: {len(draft.table or ())} controls, but the policy chooses among {count}; it needs control: "
            "table with one control per choice, in the order of the choices, or control: named with their labels in "
            "choices",
            f"{count} choices",
        )
