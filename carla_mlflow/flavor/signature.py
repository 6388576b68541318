"""The MLflow signature, derived from the specs; only this module uses MLflow's schema types."""

from __future__ import annotations

import numpy as np
from mlflow.models import ModelSignature
from mlflow.types import ColSpec, DataType, ParamSchema, ParamSpec, Schema, TensorSpec
from mlflow.types.schema import Array

from ..contract.control import CONTROL_NAMES
from ..contract.specs import ObservationSpec


def signature_of(observation: ObservationSpec) -> ModelSignature:
    """Inputs as the specs say, outputs throttle, brake and steer, params `deterministic` and `seed`."""
    if observation.has_image:
        inputs = Schema([TensorSpec(np.dtype(s.dtype), (-1, *s.shape), s.name) for s in observation])
    else:
        # MLflow refuses plain lists for Array(float): a JSON number is a double.
        inputs = Schema([ColSpec(Array(DataType.double) if s.shape else DataType.double, s.name) for s in observation])
    outputs = Schema([ColSpec(DataType.float, name) for name in CONTROL_NAMES])
    params = ParamSchema([ParamSpec("deterministic", "boolean", True), ParamSpec("seed", "long", None)])
    return ModelSignature(inputs, outputs, params)
