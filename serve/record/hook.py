"""What the request path knows of recording. Where nothing is recorded, this is all that is imported of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from serve.answering.forward import ForwardArrays
    from serve.answering.prediction import Prediction
    from serve.policy.serving import Serving


class Answered(NamedTuple):
    """A request that was answered with actions. (Not the Prediction: it would keep the request's body in memory.)

    Attributes:
        request_id: as in its response.
        episode_id: that it named, if any.
        received: when its first byte came, by `time.perf_counter`.
        started: when its forward began, by the same clock.
        ended: when its actions were ready, by the same clock.
        decode_s: seconds to decode it.
        arrays: of the forward that answered it.
        start: its first row there.
        stop: one past its last.
        first: the place of that first row in its request.
        serving: the policy.
    """

    request_id: str
    episode_id: str | None
    received: float
    started: float
    ended: float
    decode_s: float
    arrays: ForwardArrays
    start: int
    stop: int
    first: int
    serving: Serving


class Refused(NamedTuple):
    """A request that got an error.

    Attributes:
        serving: the policy that would have answered.
        prediction: None where the request did not come as far as that.
        request_id: as in its response.
        episode_id: that it named, if any.
        received: when its first byte came, by `time.perf_counter`.
        ended: when it was answered, by the same clock.
        status: of the response.
    """

    serving: Serving
    prediction: Prediction | None
    request_id: str
    episode_id: str | None
    received: float
    ended: float
    status: int


class Records(Protocol):
    """What takes requests to be recorded: `serve.record.recorder.Recorder`."""

    soon: Callable[[Callable[[], None]], object] | None

    def answered(self, prediction: Prediction, request_id: str) -> None:
        """Records a request that was answered with actions."""

    def refused(self, refused: Refused) -> None:
        """Records a request that got an error."""

    def flush(self) -> None:
        """Packs what has come."""

    def close(self) -> None:
        """Packs the rest, and ends."""


RECORDERS: list[Records] = []
"""The recorder of this process, or none. Callers check that there is one before they call anything."""


def flush_records() -> None:
    """Packs what this process has to record; nothing where it records nothing."""
    for recorder in RECORDERS:
        recorder.flush()


def stop_records() -> None:
    """Packs the rest; to be called when the process ends."""
    while RECORDERS:
        RECORDERS.pop().close()
