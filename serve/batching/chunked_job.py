"""One question that is answered piece by piece, by several threads."""

from __future__ import annotations

from asyncio import TimerHandle

import msgspec
import numpy as np

from carla_mlflow.contract.actions import Actions
from carla_mlflow.errors import SpecError
from carla_mlflow.inference.sampling import checked_seed
from serve.answering.forward import BatchActions, BatchSlice, act_together, observations_of
from serve.batching.pending_prediction import PendingPrediction
from serve.codecs.carla import PredictRequest

PIECE_MS = 3.0
"""About as long as a piece may take."""


class ChunkedJob:
    """A question, and how far it is.

    Attributes:
        started: when its first piece was begun, by `time.perf_counter`; 0 before.
        over: whether it is answered, or needs no answer.
        clock: what answers it when its budget is over.
    """

    def __init__(self, prediction: PendingPrediction) -> None:
        self.prediction = prediction
        self.started = 0.0
        self.over = False
        self.clock: TimerHandle | None = None
        self._request: PredictRequest | None = None  # with arrays, once every row of it was checked
        self._answers: dict[int, Actions] = {}
        self._next_row = self._done_rows = 0

    @property
    def has_more(self) -> bool:
        """Whether there are rows nobody works on; unknown, and so False, until the first piece has run."""
        return self._request is not None and self._next_row < self._request.count

    @property
    def is_whole(self) -> bool:
        """Whether every row is answered."""
        return self._request is not None and self._done_rows == self._request.count

    def next_piece(self) -> tuple[int, int]:
        """First row of a piece that nobody works on yet, and one past its last."""
        start = self._next_row
        stop = start + max(1, round(PIECE_MS / self.prediction.serving.row_ms))
        known = self._request or self.prediction.request  # None before the body is decoded
        self._next_row = stop if known is None else min(stop, known.count)
        return start, self._next_row

    def run(self, start: int, stop: int) -> Actions:
        """Decides on some rows, in a thread; the first piece checks all of them, before any costs a forward."""
        if self._request is None:
            self._request = self._checked()
            self._next_row = stop = min(stop, self._request.count)
        arrays = {name: array[start:stop] for name, array in self._request.observations.items()}
        piece = msgspec.structs.replace(self._request, observations=arrays)
        [answered] = act_together(self.prediction.serving, [piece])
        if isinstance(answered, SpecError):  # names the piece's row; the whole has been checked
            raise RuntimeError("a row that was checked is refused") from answered
        if isinstance(answered, Exception):
            raise answered
        return answered.actions

    def add(self, start: int, actions: Actions) -> None:
        """Takes what a piece did."""
        self._answers[start] = actions
        self._done_rows += len(actions.control)

    def _checked(self) -> PredictRequest:
        request = self.prediction.request or self.prediction.decode()
        arrays = observations_of(self.prediction.serving, request)
        self.prediction.serving.engine.specs.validate(arrays)
        seed = request.seed if request.deterministic else checked_seed(request.seed)
        return msgspec.structs.replace(request, observations=arrays, rows=None, seed=seed)

    def whole(self) -> BatchSlice:
        """The pieces together."""
        parts = [self._answers[start] for start in sorted(self._answers)]
        first = parts[0]
        if len(parts) == 1:
            return BatchSlice(BatchActions(first), 0, len(first.control))
        actions = Actions(
            np.concatenate([part.control for part in parts]),
            np.concatenate([part.raw for part in parts]),
            {name: np.concatenate([part.distribution[name] for part in parts]) for name in first.distribution},
            first.seed,
            sum(part.check_ms for part in parts),
            sum(part.inference_ms for part in parts),
            sum(part.control_ms for part in parts),
        )
        return BatchSlice(BatchActions(actions), 0, len(actions.control))

    def stop_clock(self) -> None:
        """Its budget is not watched any more."""
        if self.clock is not None:
            self.clock.cancel()
            self.clock = None

    def end(self) -> None:
        """It is answered, or needs no answer."""
        self.over = True
        self.stop_clock()
