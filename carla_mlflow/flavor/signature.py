"""The MLflow signature, derived from the specs; only this module uses MLflow's schema types."""

from __future__ import annotations

import numpy as np
from mlflow.models import ModelSignature
from mlflow.types import ColSpec, DataType, ParamSchema, ParamSpec, Schema, TensorSpec
from mlflow.types.schema import Array

from ..contract.action_card import ActionCard
from ..contract.answer import AnswerColumn, answer_columns
from ..contract.specs import ObservationSpec
from ..contract.state_token import STATE


def signature_of(observation: ObservationSpec, action: ActionCard, state_bytes: int = 0) -> ModelSignature:
    """Inputs as the specs say, outputs as the policy answers, params `deterministic` and `seed`.

    Args:
        observation: the specs.
        action: the card's section.
        state_bytes: the length of a state token of a policy with memory, which takes and gives the column `state`;
            0 for a policy without.
    """
    if observation.has_image:
        inputs = Schema([TensorSpec(np.dtype(s.dtype), (-1, *s.shape), s.name) for s in observation])
    else:
        # MLflow refuses plain lists for Array(float): a JSON number is a double. Nor are choices `long`, for which it
        # refuses floats, 3.0 in JSON among them. Of whole numbers it takes floats and int32 for a double, but no int64.
        inputs = Schema([ColSpec(Array(DataType.double) if s.shape else DataType.double, s.name) for s in observation])
    if state_bytes and observation.has_image:  # tensors can't be left out: zeros begin an episode
        inputs = Schema([*inputs.inputs, TensorSpec(np.dtype(np.uint8), (-1, state_bytes), STATE)])
    elif state_bytes:
        inputs = Schema([*inputs.inputs, ColSpec(DataType.string, STATE, required=False)])
    state = [ColSpec(DataType.string, STATE)] if state_bytes else []
    outputs = Schema([*(spec for column in answer_columns(action) for spec in _outputs(column)), *state])
    params = ParamSchema([ParamSpec("deterministic", "boolean", True), ParamSpec("seed", "long", None)])
    return ModelSignature(inputs, outputs, params)


def _outputs(column: AnswerColumn) -> list[ColSpec]:
    """One number, or of a choice its label, if it has one, and its index."""
    if not column.choices:
        return [ColSpec(DataType.float, column.name)]
    label = [ColSpec(DataType.string, column.name)] if column.labels else []
    return [*label, ColSpec(DataType.long, column.table_names[-1])]
