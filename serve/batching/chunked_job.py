"""One prediction that several threads answer chunk by chunk."""

from __future__ import annotations

from asyncio import TimerHandle

import msgspec
import numpy as np

from carla_mlflow.contract.actions import Actions
from carla_mlflow.contract.state_token import Decoded
from carla_mlflow.errors import SpecError
from carla_mlflow.inference.sampling import checked_seed
from serve.answering.forward import BatchActions, BatchSlice, ForwardArrays, act_together, observations_of
from serve.batching.pending_prediction import PendingPrediction
from serve.codecs.carla import PredictRequest

CHUNK_MS = 3.0
"""Approximate duration of a chunk, milliseconds."""


class ChunkedJob:
    """A prediction and its progress.

    Attributes:
        over: whether it is answered, or needs no response.
        clock: the timer that answers it when its budget is over.
    """

    def __init__(self, prediction: PendingPrediction) -> None:
        self.prediction = prediction
        self.over = False
        self.clock: TimerHandle | None = None
        self._request: PredictRequest | None = None  # with arrays, once all rows are checked
        self._answers: dict[int, BatchActions] = {}
        self._next_row = self._done_rows = 0

    @property
    def has_more(self) -> bool:
        """Whether there are rows that no thread has; unknown, and so False, until the first chunk has run."""
        return self._request is not None and self._next_row < self._request.count

    @property
    def is_new(self) -> bool:
        """Whether no thread has had any row of it."""
        return self._next_row == 0

    @property
    def known_rows(self) -> int:
        """The rows of the decoded request; 0 before it is decoded."""
        request = self._request or self.prediction.request
        return 0 if request is None else request.count

    @property
    def is_complete(self) -> bool:
        """Whether every row is answered."""
        return self._request is not None and self._done_rows == self._request.count

    def next_chunk(self) -> tuple[int, int]:
        """Returns the next chunk: its first row, and one past its last."""
        start = self._next_row
        stop = start + self._chunk_rows()
        self._next_row = min(stop, self.known_rows or stop)
        return start, self._next_row

    def _chunk_rows(self) -> int:
        return self.prediction.serving.forward_times.rows_within(CHUNK_MS)

    def run(self, start: int, stop: int) -> BatchActions:
        """Runs one chunk, in a thread; the first chunk checks all rows before any costs a forward."""
        if self._request is None:
            self._request = self._checked()
            self._next_row = stop = min(start + self._chunk_rows(), self._request.count)  # maybe another version's
        arrays = {name: array[start:stop] for name, array in self._request.observations.items()}
        tokens = self._request.tokens
        chunk = msgspec.structs.replace(
            self._request, observations=arrays, tokens=None if tokens is None else tokens[start:stop]
        )
        [answered] = act_together(self.prediction.serving, [chunk])
        if isinstance(answered, SpecError):  # its row is counted in the chunk; all rows were checked
            raise RuntimeError("a row that was checked is refused") from answered
        if isinstance(answered, Exception):
            raise answered
        return answered.batch

    def add(self, start: int, answered: BatchActions) -> None:
        """Stores the actions of a chunk."""
        self._answers[start] = answered
        self._done_rows += len(answered.actions.control)

    def _checked(self) -> PredictRequest:
        request = self.prediction.request or self.prediction.decode()
        arrays = observations_of(self.prediction.serving, request)
        self.prediction.serving.engine.specs.validate(arrays)
        if self.prediction.serving.tokens is not None:
            self.prediction.serving.tokens.decode(request.tokens or ())
        seed = request.seed if request.deterministic else checked_seed(request.seed)
        return msgspec.structs.replace(request, observations=arrays, rows=None, seed=seed)

    def joined(self) -> BatchSlice:
        """Joins the actions of all chunks."""
        answered = [self._answers[start] for start in sorted(self._answers)]
        if len(answered) == 1:
            return BatchSlice(answered[0], 0, len(answered[0].actions.control))
        parts = [each.actions for each in answered]
        first = parts[0]
        actions = Actions(
            np.concatenate([part.control for part in parts]),
            np.concatenate([part.raw for part in parts]),
            {name: np.concatenate([part.distribution[name] for part in parts]) for name in first.distribution},
            first.seed,
            sum(part.check_ms for part in parts),
            sum(part.inference_ms for part in parts),
            sum(part.control_ms for part in parts),
            names=first.names,
        )
        assert self._request is not None
        entered = [each.arrays.entered for each in answered if each.arrays.entered is not None]
        arrays = ForwardArrays(self._request.observations, actions, _joined(entered) if entered else None)
        batch = BatchActions(arrays, [token for each in answered for token in each.tokens])
        return BatchSlice(batch, 0, len(actions.control))

    def stop_clock(self) -> None:
        """Cancels the timer of its budget."""
        if self.clock is not None:
            self.clock.cancel()
            self.clock = None

    def end(self) -> None:
        """Marks it as over: it is answered, or needs no response."""
        self.over = True
        self.stop_clock()


def _joined(parts: list[Decoded]) -> Decoded:
    """The states of successive chunks as those of one batch."""
    state = {name: np.concatenate([part.state[name] for part in parts]) for name in parts[0].state}
    return Decoded(state, np.concatenate([p.reset for p in parts]), np.concatenate([p.steps for p in parts]))
