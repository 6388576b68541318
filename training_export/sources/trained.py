"""TrainedPolicy: the result of every source, which export turns into an artifact."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from carla_mlflow.artifact.golden import Golden
from carla_mlflow.artifact.rollouts import Rollouts
from carla_mlflow.contract.action_card import ActionCard
from carla_mlflow.contract.card_sections import StateCard
from carla_mlflow.contract.control import controller
from carla_mlflow.contract.field_card import FieldCard, observation_spec
from carla_mlflow.contract.heads import PARAMETERS, POSITIVE, mode
from carla_mlflow.contract.memory import RESET, Memory, graph_inputs
from carla_mlflow.contract.specs import ObservationSpec
from carla_mlflow.errors import ExportError
from training_export.graphs.graph import PolicyGraph
from training_export.graphs.onnx_file import OnnxFile

Arrays = Mapping[str, NDArray[Any]]


@dataclass(frozen=True)
class TrainedPolicy:
    """A trained policy, ready for export.

    Attributes:
        graph: the network and head to be exported.
        observation: the card's observation section.
        action: the card's action section.
        answer: computes the trained policy's own answers, with which the exported graph is compared. Of a policy with a
            memory it takes `reset` and the states, too, and returns a Golden with Rollouts of one step.
        driving: observations from driving, each (N, *shape), or None when there are none.
        preprocessor: the fitted transformer as skops bytes, when there is one.
        features: observations → the graph's input, when the preprocessor can't be part of the graph.
        trusted: types beyond TRUSTED_TYPES that the preprocessor holds.
        scripted: the same graph with the network's branches and loops kept, for TorchScript; None traces `graph`.
        values: observations → the values, (B, K), the largest of which is chosen, if they are known and `answer` does
            not contain them.
        assumed: what was assumed because the source does not say it, in words; empty when nothing was.
        valid: drawn observations → such as the policy can meet, where values within the bounds alone are not enough (a
            mask that excludes every choice); None where they are.
        training: the policy's origin, for the card.
        states: the card's section `state`; empty without memory.
    """

    graph: PolicyGraph | OnnxFile
    observation: dict[str, FieldCard]
    action: ActionCard
    answer: Callable[[Arrays], Golden]
    driving: Arrays | None = None
    preprocessor: bytes | None = None
    features: Callable[[Arrays], NDArray[np.float32]] | None = None
    trusted: tuple[str, ...] = ()
    scripted: PolicyGraph | None = None
    values: Callable[[Arrays], NDArray[np.float32]] | None = None
    assumed: str = ""
    valid: Callable[[dict[str, NDArray[Any]]], dict[str, NDArray[Any]]] | None = None
    training: dict[str, Any] = field(default_factory=dict)
    states: dict[str, StateCard] = field(default_factory=dict)

    @property
    def inputs(self) -> ObservationSpec:
        """What `answer` takes: observations and, with a memory, `reset` and the states."""
        return graph_inputs(observation_spec(self.observation), self.states)


def control_of(action: ActionCard, raw: NDArray[np.float32]) -> NDArray[np.float32]:
    """Raw actions (B, A) → what the policy answers (B, C), by the card's action section."""
    return controller(action)(raw)


def golden_of(
    action: ActionCard,
    observations: Arrays,
    outputs: list[NDArray[np.float32]],
    features: NDArray[np.float32] | None = None,
    states: Mapping[str, StateCard] | None = None,
) -> Golden:
    """A network's outputs as golden rows, by the head's numpy formulas rather than the graph's.

    Args:
        action: the card's section.
        observations: the network's inputs; with a memory, `reset` and the states among them.
        outputs: the head's parameters, or the action itself for `deterministic`, each (B, width); with a memory, then
            the next states.
        features: the preprocessor's output for the observations.
        states: the card's section, of a policy with a memory.
    """
    if states:
        count = len(outputs) - len(states)
        golden = golden_of(action, without_memory(observations, states), outputs[:count], features)
        following = dict(zip(states, outputs[count:], strict=True))
        return replace(golden, rollouts=one_step(observations, following))
    low, high = action.bounds
    parameters = dict(zip(PARAMETERS[action.head], outputs, strict=False))
    for name in parameters.keys() & set(POSITIVE):
        if not (parameters[name] >= 0).all():
            raise ExportError(f"the network gives a {name} of {np.nanmin(parameters[name]):g}; it has to be positive")
    if parameters:
        raw = mode(action.head, action.deterministic, parameters, low, high)
    else:
        raw = np.clip(outputs[0], low, high)
    if action.choice_counts and (raw != np.rint(raw)).any():
        raise ExportError("the network's choice has to be a whole number, the index of one of the card's choices")
    return Golden(dict(observations), raw, parameters, control_of(action, raw), features)


def without_memory(inputs: Arrays, states: Mapping[str, StateCard]) -> dict[str, NDArray[Any]]:
    """The observations among a graph's inputs."""
    return {name: array for name, array in inputs.items() if not states or (name not in states and name != RESET)}


def begun(inputs: Arrays, states: Mapping[str, StateCard]) -> list[NDArray[np.float32]]:
    """The states among a graph's inputs, in the card's order, with the initial values in rows that begin an episode."""
    if not states:
        return []
    given = {name: inputs[name] for name in states}
    return list(Memory(states).enter(len(inputs[RESET]), given, inputs[RESET])[1].values())


def one_step(inputs: Arrays, following: Mapping[str, NDArray[np.float32]]) -> Rollouts:
    """The memory of a batch of single steps: every row is a rollout of its own.

    Args:
        inputs: `reset` and the states, among the observations.
        following: the next states.
    """
    given = {name: inputs[name] for name in following}
    return Rollouts(len(inputs[RESET]), inputs[RESET], given, dict(following))


def flatten(specs: ObservationSpec, observations: Arrays) -> NDArray[np.float32]:
    """Named arrays → rows of features, in the order of the specs, float32 (B, F)."""
    rows = len(observations[specs[0].name])
    return np.concatenate([observations[name].reshape(rows, -1) for name in specs.names], axis=1)


def stack(specs: ObservationSpec, parts: list[Arrays]) -> dict[str, NDArray[Any]]:
    """Concatenates batches, in the order and with the types of the specs."""
    return {spec.name: np.concatenate([part[spec.name] for part in parts]).astype(spec.dtype) for spec in specs}
