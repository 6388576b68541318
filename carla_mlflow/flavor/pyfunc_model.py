"""A policy artifact as an MLflow pyfunc model, logged as models-from-code.

This package travels inside the logged model under a name that contains its hash (see `code_bundle`), so a model
runs on a machine without this project, and never with another version's code.
"""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from mlflow.pyfunc.model import PythonModel

from ..contract.answer import answer_columns, answer_table
from ..contract.control import unstated_scales
from ..contract.state_token import STATE, StateTokens, next_steps, to_text
from ..errors import SpecError
from ..inference.engine import Engine
from ..preprocessing.trust_types import operators_types
from .environment import state_key
from .input_states import split_input


class PolicyModel(PythonModel):
    """MLflow's `predict` on our engine: observations that fit the signature → what the policy answers."""

    # The signature says more than type hints could. With hints on `predict` MLflow infers another signature; without
    # them it warns that there are none. This makes it do neither.
    _skip_type_hint_validation = True

    def load_context(self, context: Any) -> None:
        """Opens `artifacts/policy`, and verifies it against its card and its golden observations."""
        folder, device = Path(context.artifacts["policy"]), os.environ.get("POLICY_DEVICE", "auto")
        self._engine = Engine.open(folder, device=device, trusted=operators_types())
        for text in unstated_scales(self._engine.card.action):
            logging.getLogger(__name__).warning("%s: %s", self._engine.card.version, text)
        self._engine.warm_up()
        self._columns = answer_columns(self._engine.card.action)
        memory = self._engine.card.memory
        self._tokens = None if memory is None else StateTokens(self._engine.digest, memory.shapes, state_key())

    def predict(self, context, model_input, params=None) -> pd.DataFrame:  # type: ignore[no-untyped-def]
        """Computes the actions for all rows.

        Args:
            context: unused; MLflow passes it.
            model_input: a DataFrame with one column per field, or a dict of arrays when a field is an image.
            params: `deterministic` (default true) and `seed`.

        Returns:
            A DataFrame with the float32 columns throttle, brake and steer, or with those of the card's policy: of a
            choice its label, if the card has labels, and its index as int64. Of a policy with memory, also the column
            `state`: base64 texts, to be given back with the next observations.

        Raises:
            SpecError: an observation or a state does not fit the spec; names row and field.
            EpisodeError: a state was made by another version or with another key; names the row.
        """
        params = params or {}
        unknown = set(params) - {"deterministic", "seed"}
        if unknown:
            raise SpecError("params", f"unknown: {', '.join(sorted(unknown))}")
        given, seed = params.get("deterministic"), params.get("seed")
        deterministic = True if given is None else bool(given)
        if self._tokens is None:
            return pd.DataFrame(answer_table(self._columns, self._engine.act(model_input, deterministic, seed).control))
        observations, tokens = split_input(model_input, self._tokens.token_bytes)
        came = None if tokens is None else self._tokens.decode(tokens)
        state, reset = (None, None) if came is None else (came.state, came.reset)
        actions = self._engine.act(observations, deterministic, seed, state=state, reset=reset)
        steps = np.zeros(len(actions.control), np.uint32) if came is None else came.steps
        states = [to_text(token) for token in self._tokens.encode(actions.state, next_steps(steps))]
        return pd.DataFrame({**answer_table(self._columns, actions.control), STATE: states})
