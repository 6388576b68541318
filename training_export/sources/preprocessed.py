"""A fitted preprocessor before a network: in the graph where it can be translated, else run from skops beside it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from carla_mlflow.contract.specs import ObservationSpec
from carla_mlflow.errors import ExportError
from carla_mlflow.preprocessing.beside_graph import OutOfGraph
from carla_mlflow.preprocessing.fitted import check_fitted
from carla_mlflow.preprocessing.skops_file import dump_preprocessor
from carla_mlflow.preprocessing.translation import Untranslatable, translate
from training_export.graphs.graph import Flatten
from training_export.sources.trained import Arrays, flatten


class Behind(nn.Module):
    """Named observations → flat → preprocessing → network, which also gets the `states` tensors after them."""

    def __init__(self, preprocessing: nn.Module, network: nn.Module, states: int = 0) -> None:
        super().__init__()
        self.states = states
        self.flatten = Flatten()
        self.preprocessing = preprocessing
        self.network = network

    def forward(self, *inputs: Any) -> Any:
        observed = len(inputs) - self.states
        return self.network(self.preprocessing(self.flatten(*inputs[:observed])), *inputs[observed:])


@dataclass(frozen=True)
class Preprocessed:
    """The preprocessing before a network.

    Attributes:
        transformer: fitted; None when the network takes the named observations themselves.
        module: the transformer's translation; None when there is none.
        data: the transformer as skops bytes.
        trusted: the types that the author trusts beyond TRUSTED_TYPES.
        reason: why it stays outside the graph; empty when it does not.
    """

    transformer: Any = None
    module: nn.Module | None = None
    data: bytes | None = None
    trusted: tuple[str, ...] = ()
    reason: str = ""

    def inputs(
        self, specs: ObservationSpec, observations: Arrays
    ) -> tuple[list[NDArray[Any]], NDArray[np.float32] | None]:
        """The network's inputs and, with a transformer, the features, computed by the transformer itself."""
        if self.transformer is None:
            return [observations[name] for name in specs.names], None
        features = OutOfGraph(self.transformer)(flatten(specs, observations))
        return [features], features

    def before(self, network: nn.Module, states: int = 0) -> nn.Module:
        """The network, preceded by the preprocessing if that is in the graph; `states` tensors pass it by."""
        return network if self.module is None else Behind(self.module, network, states)

    def features(self, specs: ObservationSpec) -> Callable[[Arrays], NDArray[np.float32]] | None:
        """The function observations → the graph's input, when preprocessing is outside the graph; else None."""
        if self.transformer is None or self.module is not None:
            return None
        return lambda observations: OutOfGraph(self.transformer)(flatten(specs, observations))


Prepare = Callable[[ObservationSpec], Preprocessed]
"""Makes the preprocessing before a network, once its observations are known."""


def no_preprocessor(_: ObservationSpec) -> Preprocessed:
    """No preprocessing before the network."""
    return Preprocessed()


def preprocessed(transformer: Any, specs: ObservationSpec, trusted: tuple[str, ...] = ()) -> Preprocessed:
    """Preprocessing by a fitted scikit-learn transformer of the flat observation, in the card's order.

    Raises:
        ExportError: it was never fitted, was fitted on another number of features, or an observation is an image.
    """
    images = [spec.name for spec in specs if spec.dtype != "float32" or len(spec.shape) > 1]
    if images:
        raise ExportError(
            f"a preprocessor takes flat float32 observations, but {', '.join(images)} is an image or not float32"
        )
    width = sum(int(np.prod(spec.shape, dtype=int)) for spec in specs)
    check_fitted(transformer, width)
    data = dump_preprocessor(transformer)
    try:
        return Preprocessed(transformer, translate(transformer, width), data, trusted)
    except Untranslatable as error:
        return Preprocessed(transformer, None, data, trusted, str(error))


def flat_input(network: nn.Module, specs: ObservationSpec, preprocessing: nn.Module) -> nn.Module:
    """Turns a network of flat features into one of named observations, traced so that it can be part of a graph.

    Args:
        network: takes features (B, F).
        specs: of the observations.
        preprocessing: makes the features of the flat observations, float32 (B, F) in the specs' order.
    """
    examples = tuple(torch.from_numpy(array) for array in specs.example(2).values())
    traced: nn.Module = torch.jit.trace(Behind(preprocessing, network), examples, check_trace=False)  # type: ignore[no-untyped-call]
    return traced
