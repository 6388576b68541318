"""A prediction that waits for its forward, and the callbacks for its outcome."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from serve.answering.forward import BatchSlice
from serve.answering.prediction import Prediction
from serve.wire.request import Request


class PendingPrediction(Prediction, kw_only=True, eq=False, gc=False):
    """A prediction that waits for its forward.

    Attributes:
        wire: the request on its connection.
    """

    wire: Request


class Outcomes(NamedTuple):
    """Callbacks for the outcome of a prediction.

    Attributes:
        send: called with its batch slice.
        refuse: called with its error.
        forget: called when its client is gone, with the status to count, or None where the watchdog answered it.
    """

    send: Callable[[PendingPrediction, BatchSlice], None]
    refuse: Callable[[PendingPrediction, Exception], None]
    forget: Callable[[PendingPrediction, int | None], None]
