"""What every source of policies comes to: a TrainedPolicy, which export turns into an artifact."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from carla_mlflow.card_sections import ActionCard, FieldCard
from carla_mlflow.control import to_control
from carla_mlflow.golden import Golden
from carla_mlflow.specs import ObservationSpec
from training_export.graph import PolicyGraph

Arrays = Mapping[str, NDArray[Any]]


@dataclass(frozen=True)
class TrainedPolicy:
    """A policy as its training left it.

    Attributes:
        graph: what will be exported.
        observation: the card's observation section.
        action: the card's action section.
        answer: what the trained policy itself does with observations; the measure of the exported graph.
        driving: observations from driving, each (N, *shape), or None when there are none.
        preprocessor: the fitted transformer as skops bytes, when there is one.
        training: for the card: where it comes from.
    """

    graph: PolicyGraph
    observation: dict[str, FieldCard]
    action: ActionCard
    answer: Callable[[Arrays], Golden]
    driving: Arrays | None = None
    preprocessor: bytes | None = None
    training: dict[str, Any] = field(default_factory=dict)


def control_of(action: ActionCard, raw: NDArray[np.float32]) -> NDArray[np.float32]:
    """Raw actions (B, A) → throttle, brake, steer (B, 3), by the card's action section."""
    return to_control(action.control, tuple(action.raw), raw)


def stack(specs: ObservationSpec, parts: list[Arrays]) -> dict[str, NDArray[Any]]:
    """Batches one after the other, in the order and the types of the specs."""
    return {spec.name: np.concatenate([part[spec.name] for part in parts]).astype(spec.dtype) for spec in specs}
