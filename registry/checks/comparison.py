"""Compares two policies: how far their actions differ, and which version step their changes require (`step_due`)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from carla_mlflow.artifact.artifact import Artifact
from carla_mlflow.artifact.golden import Golden
from carla_mlflow.contract.action_card import ActionCard
from carla_mlflow.differences.actions import differences as action_differences
from carla_mlflow.differences.actions import dimensions
from carla_mlflow.differences.distribution import DimensionFigures, Distribution
from carla_mlflow.errors import ParityError, SpecError
from carla_mlflow.inference.engine import Engine
from carla_mlflow.inference.rollouts import act_freely
from carla_mlflow.preprocessing.trust_types import operators_types
from registry.rules.changes import contract_changes, other_changes
from registry.rules.versions import Step


@dataclass(frozen=True)
class Difference:
    """How far two policies' actions are apart on one golden set.

    Attributes:
        observations: how many, and of which version's golden set, in words.
        largest: control → largest absolute difference.
        mean: control → mean absolute difference.
        distributions: how often they are how far apart, in steering and acceleration, or in each column of the answer.
    """

    observations: str
    largest: dict[str, float]
    mean: dict[str, float]
    distributions: tuple[DimensionFigures, ...]


@dataclass(frozen=True)
class Comparison:
    """Two policies side by side.

    Attributes:
        old: name and version.
        new: name and version.
        contract: changes of what a car's code depends on, in words.
        others: changes of files, weights, training and metrics, in words.
        actions: one difference per golden set; empty when the observations, or the names of the answers, differ.
        step: the version step that the changes require.
    """

    old: str
    new: str
    contract: list[str]
    others: list[str]
    actions: list[Difference]
    step: Step


def compare(old: Artifact, new: Artifact) -> Comparison:
    """Compares two policies; when both see and answer the same, each acts on both golden sets too.

    On the golden rollouts of policies with a memory each keeps its own states, so that what it remembers counts.
    """
    contract = contract_changes(old.card, new.card)
    comparable = not any(change.place.startswith("observation") for change in contract)
    comparable &= old.card.action.control_names == new.card.action.control_names
    actions = _actions(old, new) if comparable else []
    step, _ = step_due(old, new)
    titles = [f"{artifact.card.name} {artifact.card.version}" for artifact in (old, new)]
    others = [str(change) for change in other_changes(old.card, new.card)]
    return Comparison(titles[0], titles[1], [str(change) for change in contract], others, actions, step)


def step_due(old: Artifact, new: Artifact) -> tuple[Step, str]:
    """The smallest version step that the changes require, and the change that requires it, in words."""
    contract = contract_changes(old.card, new.card)
    if contract:
        return "major", "the contract changed: " + "; ".join(map(str, contract))
    if old.card.weights != new.card.weights:
        return "minor", "the weights differ"
    if old.card.content != new.card.content and not act_alike(old, new):
        return "minor", "the policies act differently with the same weights: the network changed"
    return "patch", "; ".join(map(str, other_changes(old.card, new.card))) or "nothing changed"


def act_alike(old: Artifact, new: Artifact) -> bool:
    """Whether each policy reproduces the other's golden answers, within its own tolerance."""
    one, two = _engines(old, new)
    try:
        one.compare(two.golden)
        two.compare(one.golden)
    except (ParityError, SpecError):  # one refuses what the other observes, or their states differ in shape
        return False
    return True


def _engines(old: Artifact, new: Artifact) -> list[Engine]:
    """Not strict: to verify batch shapes would take most of the time of a comparison, whose rows share one batch."""
    trusted = operators_types()
    return [Engine(artifact, "cpu", trusted=trusted, strict=False) for artifact in (old, new)]


def _actions(old: Artifact, new: Artifact) -> list[Difference]:
    engines, differences = _engines(old, new), []
    for engine in engines:
        before, after = (_controls(each, engine.golden) for each in engines)
        apart = np.abs(after - before)
        names = engine.card.action.control_names
        largest, mean = (
            dict(zip(names, map(float, figures), strict=True)) for figures in (apart.max(0), apart.mean(0))
        )
        title = f"{len(apart)} golden observations of {engine.card.version}"
        differences.append(Difference(title, largest, mean, _distributions(engine.card.action, before, after)))
    return differences


def _distributions(
    action: ActionCard, before: NDArray[np.float64], after: NDArray[np.float64]
) -> tuple[DimensionFigures, ...]:
    apart, found = action_differences(action, before.astype(np.float32), after.astype(np.float32)), []
    for dimension in dimensions(action):
        distribution = Distribution(dimension.span)
        distribution.add(apart[dimension.name])
        found.append(distribution.figures(dimension.name, dimension.is_choice))
    return tuple(found)


def _controls(engine: Engine, golden: Golden) -> NDArray[np.float64]:
    """What a policy answers on a golden set, (N, C), in the set's order; on rollouts with the states of its own."""
    rollouts = golden.rollouts
    if rollouts is None or engine.card.memory is None:
        return engine.act(golden.observations).control.astype(np.float64)
    by_step = np.stack([actions.control for actions in act_freely(engine.act, golden)])
    return np.swapaxes(by_step, 0, 1).reshape(len(rollouts.reset), -1).astype(np.float64)


def format_comparison(comparison: Comparison) -> str:
    """Formats the comparison for a person."""
    lines = [f"{comparison.old} → {comparison.new}"]
    lines += [f"contract   {text}" for text in comparison.contract] or ["contract   the same"]
    lines += [f"           {text}" for text in comparison.others]
    for difference in comparison.actions:
        parts = [f"{n} {difference.largest[n]:.3g} (mean {difference.mean[n]:.3g})" for n in difference.largest]
        lines.append(f"actions    on {difference.observations} the largest difference is: " + ", ".join(parts))
    return "\n".join([*lines, f"step       {comparison.step}"])
