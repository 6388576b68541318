"""What the request path knows of recording. Where nothing is recorded, this is all that is imported of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from serve.answering.prediction import Prediction
    from serve.policy.serving import Serving
    from serve.record.recorder import Recorder

RECORDERS: list[Recorder] = []
"""The recorder of this process, or none. Callers check that there is one before they call anything."""


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


def flush_records() -> None:
    """Encodes what this process has to record; nothing where it records nothing."""
    for recorder in RECORDERS:
        recorder.flush()


def stop_records() -> None:
    """Encodes the rest; to be called when the process ends."""
    while RECORDERS:
        RECORDERS.pop().close()
