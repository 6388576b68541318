"""The column `state` of scored files: of a policy with memory, the state token that each row brings, and its next."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from carla_mlflow.contract.state_token import STATE, StateTokens, from_text, next_steps, state_field, to_text
from carla_mlflow.errors import SpecError
from carla_mlflow.flavor.environment import state_key
from carla_mlflow.inference.engine import Engine


class StateColumn:
    """Acts on rows with the states that they bring; the tokens are those of a server with the same POLICY_STATE_KEY."""

    def __init__(self, engine: Engine) -> None:
        memory = engine.card.memory
        self._engine = engine
        self._tokens = None if memory is None else StateTokens(engine.digest, memory.shapes, state_key())

    @property
    def names(self) -> tuple[str, ...]:
        """The column that is read and written; none for a policy without memory."""
        return () if self._tokens is None else (STATE,)

    @property
    def key_id(self) -> str:
        """Which key the tokens are made with, as hex digits; empty for a policy without memory."""
        return "" if self._tokens is None else self._tokens.key_id.hex()

    def act(
        self, observations: dict[str, NDArray[Any]], batch: pa.RecordBatch
    ) -> tuple[NDArray[np.float32], list[str]]:
        """Returns the actions, and each row's next state as base64 text; no text of a policy without memory.

        Without the column `state` every row begins an episode.

        Raises:
            SpecError: a row does not fit, or its state is no token; names it.
            EpisodeError: a state was made by another version or with another key.
        """
        if self._tokens is None:
            return self._engine.act(observations).control, []
        came = self._tokens.decode(_tokens_in(batch))
        actions = self._engine.act(observations, state=came.state, reset=came.reset)
        tokens = self._tokens.encode(actions.state, next_steps(came.steps))
        return actions.control, [to_text(token) for token in tokens]


def _tokens_in(batch: pa.RecordBatch) -> list[bytes | None]:
    if STATE not in batch.schema.names:
        return [None] * len(batch)
    column = batch.column(STATE)
    kinds = (pa.types.is_string, pa.types.is_large_string, pa.types.is_null)
    if not any(is_kind(column.type) for is_kind in kinds):
        raise SpecError(STATE, f"expected base64 texts, null where an episode begins, got {column.type}")
    return [from_text(text, state_field(row)) for row, text in enumerate(column.to_pylist())]
