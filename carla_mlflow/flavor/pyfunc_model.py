"""The models-from-code door: a policy artifact as an MLflow pyfunc model.

This file and its neighbours travel inside the logged model under a name that holds their hash (see
`code_bundle`), so a model answers on a machine without this project, and never with another version's code.
"""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from mlflow.pyfunc.model import PythonModel

from ..contract.control import CONTROL_NAMES, unstated_scales
from ..errors import SpecError
from ..inference.engine import Engine
from ..preprocessing.skops_file import operators_types


class PolicyModel(PythonModel):
    """MLflow's `predict` over our engine: observations in by the signature, throttle, brake and steer out."""

    # The signature says more than type hints could. With hints on `predict` MLflow infers another one, without
    # them it warns that there are none, unless told to skip both.
    _skip_type_hint_validation = True

    def load_context(self, context: Any) -> None:
        """Opens `artifacts/policy`, verified against its card and its golden observations."""
        folder, device = Path(context.artifacts["policy"]), os.environ.get("POLICY_DEVICE", "auto")
        self._engine = Engine.open(folder, device=device, trusted=operators_types())
        for text in unstated_scales(self._engine.card.action):
            logging.getLogger(__name__).warning("%s: %s", self._engine.card.version, text)
        self._engine.warm_up()

    def predict(self, context, model_input, params=None) -> pd.DataFrame:  # type: ignore[no-untyped-def]
        """Decides for every row.

        Args:
            context: unused; MLflow hands it in.
            model_input: a DataFrame with a column a field, or a dict of arrays when a field is an image.
            params: `deterministic` (default true) and `seed`.

        Returns:
            A DataFrame with the float32 columns throttle, brake and steer.

        Raises:
            SpecError: an observation does not fit the spec; names row and field.
        """
        params = params or {}
        unknown = set(params) - {"deterministic", "seed"}
        if unknown:
            raise SpecError("params", f"unknown: {', '.join(sorted(unknown))}")
        deterministic = params.get("deterministic")
        actions = self._engine.act(
            model_input,
            deterministic=True if deterministic is None else bool(deterministic),
            seed=params.get("seed"),
        )
        return pd.DataFrame(np.asarray(actions.control), columns=list(CONTROL_NAMES))
