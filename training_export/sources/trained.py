"""TrainedPolicy: the result of every source, which export turns into an artifact."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from carla_mlflow.artifact.golden import Golden
from carla_mlflow.contract.card_sections import ActionCard, FieldCard
from carla_mlflow.contract.control import controller
from carla_mlflow.contract.heads import PARAMETERS, POSITIVE, mode
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
        answer: computes the trained policy's own answers, with which the exported graph is compared.
        driving: observations from driving, each (N, *shape), or None when there are none.
        preprocessor: the fitted transformer as skops bytes, when there is one.
        features: observations → the graph's input, when the preprocessor can't be part of the graph.
        trusted: types beyond TRUSTED_TYPES that the preprocessor holds.
        scripted: the same graph with the network's branches and loops kept, for TorchScript; None traces `graph`.
        values: observations → the values, (B, K), the largest of which chooses among a table's controls, if they are
            known and `answer` does not contain them.
        assumed: what was assumed because the source does not say it, in words; empty when nothing was.
        valid: drawn observations → such as the policy can meet, where values within the bounds alone are not enough (a
            mask that excludes every choice); None where they are.
        training: the policy's origin, for the card.
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


def control_of(action: ActionCard, raw: NDArray[np.float32]) -> NDArray[np.float32]:
    """Raw actions (B, A) → throttle, brake, steer (B, 3), by the card's action section."""
    return controller(action)(raw)


def golden_of(
    action: ActionCard,
    observations: Arrays,
    outputs: list[NDArray[np.float32]],
    features: NDArray[np.float32] | None = None,
) -> Golden:
    """A network's outputs as golden rows, by the head's numpy formulas rather than the graph's.

    Args:
        action: the card's section.
        observations: the network's inputs.
        outputs: the head's parameters, or the action itself for `deterministic`, each (B, width).
        features: the preprocessor's output for the observations.
    """
    low, high = action.bounds
    parameters = dict(zip(PARAMETERS[action.head], outputs, strict=False))
    for name in parameters.keys() & set(POSITIVE):
        if not (parameters[name] >= 0).all():
            raise ExportError(f"the network gives a {name} of {np.nanmin(parameters[name]):g}; it has to be positive")
    if parameters:
        raw = mode(action.head, action.deterministic, parameters, low, high)
    else:
        raw = np.clip(outputs[0], low, high)
    if action.table is not None and (raw != np.rint(raw)).any():
        raise ExportError("the network's choice has to be a whole number, the row of the table")
    return Golden(dict(observations), raw, parameters, control_of(action, raw), features)


def flatten(specs: ObservationSpec, observations: Arrays) -> NDArray[np.float32]:
    """Named arrays → rows of features, in the order of the specs, float32 (B, F)."""
    rows = len(observations[specs[0].name])
    return np.concatenate([observations[name].reshape(rows, -1) for name in specs.names], axis=1)


def stack(specs: ObservationSpec, parts: list[Arrays]) -> dict[str, NDArray[Any]]:
    """Concatenates batches, in the order and with the types of the specs."""
    return {spec.name: np.concatenate([part[spec.name] for part in parts]).astype(spec.dtype) for spec in specs}
