"""Answers several requests by one forward: joins their observations to a batch, and slices the actions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from carla_mlflow.contract.actions import Actions
from carla_mlflow.contract.answer import AnswerColumn
from carla_mlflow.contract.control_kinds import ANSWERED, CONTROL_NAMES
from carla_mlflow.contract.state_token import Decoded, next_steps
from carla_mlflow.errors import ActionError, EpisodeError, SpecError
from serve.codecs.action_rows import ActionRows
from serve.codecs.carla import PredictRequest
from serve.policy.serving import Serving
from serve.telemetry import metrics
from serve.telemetry.metrics_buffer import ForwardRecord
from serve.telemetry.version_names import VERSIONS


class BatchSlice(msgspec.Struct, frozen=True, eq=False, gc=False):
    """The rows of a batch that belong to one request.

    Attributes:
        batch: the actions of the whole batch, with the rows of other requests.
        start: first row of this request.
        stop: one past its last.
    """

    batch: BatchActions
    start: int
    stop: int

    @property
    def actions(self) -> Actions:
        """The actions of this request only."""
        whole = self.batch.actions
        if self.stop - self.start == len(whole.control):
            return whole
        rows = slice(self.start, self.stop)
        distribution = {name: values[rows] for name, values in whole.distribution.items()}
        timing = (whole.check_ms, whole.inference_ms, whole.control_ms)
        return Actions(whole.control[rows], whole.raw[rows], distribution, whole.seed, *timing, names=whole.names)

    def pedals(self, columns: tuple[AnswerColumn, ...]) -> NDArray[np.float32] | None:
        """Throttle, brake, steer of this request only, (B, 3); a view of the whole batch.

        NaN where the policy decides only an acceleration or only steers; None where it answers something else.

        Args:
            columns: of the policy's answers.
        """
        actions = self.batch.actions
        control = actions.control[self.start : self.stop]
        if actions.names == CONTROL_NAMES:
            return control
        if actions.names not in ANSWERED.values() or not columns[0].is_unit:  # `named` has units of its own
            return None
        pedals = np.full((len(control), len(CONTROL_NAMES)), np.nan, dtype=np.float32)
        if actions.names == ("steer",):
            pedals[:, 2] = control[:, 0]
        else:
            pedals[:, 0], pedals[:, 1] = np.maximum(control[:, 0], 0), np.maximum(-control[:, 0], 0)
        return pedals

    @property
    def tokens(self) -> Sequence[bytes]:
        """The state tokens of this request only; none for a policy without memory."""
        return self.batch.tokens[self.start : self.stop]

    def objects(self, encoder: ActionRows) -> bytes:
        """The actions as JSON objects, separated by commas, as the policy's encoder writes them."""
        width = encoder.width
        parts = self.batch.parts(encoder)[width * self.start : width * self.stop]
        return encoder.template(self.stop - self.start) % tuple(parts)


class ForwardArrays(msgspec.Struct, frozen=True, eq=False, gc=False):
    """What went into a forward, and what came out; for the recording.

    Attributes:
        observations: that the policy got, name → (B, *shape).
        actions: of the whole batch.
        entered: the memory that came in; None for a policy without memory.
    """

    observations: Mapping[str, NDArray[Any]]
    actions: Actions
    entered: Decoded | None


class BatchActions:
    """The policy's actions for a batch, with their JSON, which is made once.

    Attributes:
        actions: of the whole batch.
        arrays: these, and what they were made from.
        tokens: the state token of every row; none for a policy without memory.
    """

    __slots__ = ("_parts", "actions", "arrays", "tokens")

    def __init__(self, arrays: ForwardArrays, tokens: Sequence[bytes] = ()) -> None:
        self.actions, self.arrays, self.tokens = arrays.actions, arrays, tokens
        self._parts: dict[ActionRows, list[bytes]] = {}

    def parts(self, encoder: ActionRows) -> list[bytes]:
        """The values of every row as a flat list of pieces of JSON."""
        found = self._parts.get(encoder)
        if found is None:
            found = self._parts[encoder] = encoder.parts(self.actions.control, self.tokens)
        return found


def act_together(serving: Serving, requests: Sequence[PredictRequest]) -> list[BatchSlice | Exception]:
    """Answers requests of one mode with as few forwards as possible.

    A request that can't be answered gets its own SpecError, EpisodeError or ActionError, without effect on the others.

    Args:
        serving: the policy.
        requests: any number of deterministic ones, or a single one that samples.
    """
    counts = [request.count for request in requests]
    try:
        observations, entered = _gather(serving, requests), None
        tokens: Sequence[bytes] = ()
        if serving.tokens is None:
            actions = serving.act(observations, requests[0].deterministic, requests[0].seed)
        else:
            entered = serving.tokens.decode([token for each in requests for token in each.tokens or ()])
            actions = serving.act(
                observations, requests[0].deterministic, requests[0].seed, state=entered.state, reset=entered.reset
            )
            tokens = serving.tokens.encode(actions.state, next_steps(entered.steps))
    except (SpecError, EpisodeError, ActionError) as error:
        if len(requests) == 1:
            if isinstance(error, ActionError):
                metrics.UNUSABLE.labels(VERSIONS.label(serving.version)).inc()
            return [error]
        half = len(requests) // 2  # bisection: a few steps separate the faulty requests
        return act_together(serving, requests[:half]) + act_together(serving, requests[half:])
    watched = serving.predict.watched
    watched_values = {spec.name: observations[spec.name] for spec in watched}
    metrics.BUFFER.acted(
        ForwardRecord(
            serving.version, actions.inference_ms / 1e3, watched, watched_values, actions.control, serving.columns
        )
    )
    if serving.cache is None:
        took_ms = actions.check_ms + actions.inference_ms + actions.control_ms
        serving.forward_times.observe(len(actions.control), took_ms)
    else:  # a forward of the rows that it does not know, only
        metrics.count_cache(serving.cache)
    batch, start = BatchActions(ForwardArrays(observations, actions, entered), tokens), 0
    answers: list[BatchSlice | Exception] = []
    for count in counts:
        answers.append(BatchSlice(batch, start, start + count))
        start += count
    return answers


def _gather(serving: Serving, requests: Sequence[PredictRequest]) -> dict[str, NDArray[Any]]:
    if len(requests) == 1:
        return observations_of(serving, requests[0])
    if all(request.rows is not None for request in requests):
        return serving.predict.to_arrays([row for request in requests for row in request.rows or ()])
    parts = [observations_of(serving, request) for request in requests]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def observations_of(serving: Serving, request: PredictRequest) -> dict[str, NDArray[Any]]:
    """Returns a request's observations as arrays."""
    return serving.predict.to_arrays(request.rows) if request.rows is not None else request.observations
