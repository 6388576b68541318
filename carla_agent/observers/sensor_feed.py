"""The latest data of each sensor: put there by carla's threads or by a leaderboard, read by the observers."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple


class Reading(NamedTuple):
    """What a sensor sent, and in which tick it was measured."""

    frame: int
    data: Any


class SensorFeed:
    """Keeps the latest reading of each sensor. Safe to share between threads."""

    def __init__(self) -> None:
        self._readings: dict[str, Reading] = {}
        self._arrived = threading.Condition()

    def put(self, sensor: str) -> Callable[[Any], None]:
        """What a carla sensor calls with its data: `camera.listen(feed.put("rgb"))`.

        Args:
            sensor: the id under which observers ask for it.
        """

        def receive(data: Any) -> None:
            self.update({sensor: (data.frame, data)})

        return receive

    def update(self, input_data: Mapping[str, tuple[int, Any]]) -> None:
        """Takes what a leaderboard hands its agent: sensor id → (frame, data)."""
        with self._arrived:
            for sensor, (frame, data) in input_data.items():
                self._readings[sensor] = Reading(frame, data)
            self._arrived.notify_all()

    def forget(self, sensor: str) -> None:
        """Drops what that sensor sent: a new route begins, and its frames may be counted anew."""
        with self._arrived:
            self._readings.pop(sensor, None)

    def latest(self, sensor: str) -> Reading | None:
        """The newest reading; None when the sensor has sent nothing yet."""
        return self._readings.get(sensor)

    def at(self, sensor: str, frame: int, wait_s: float, max_age: int) -> Reading | None:
        """The reading of a tick, or a newer one that is there already.

        Args:
            sensor: its id.
            frame: of the tick.
            wait_s: how long to wait for it. A tick ends before its images have arrived.
            max_age: how many ticks old a reading may be when that one does not come in time.

        Returns:
            The newest reading; None when it is more than `max_age` ticks older than `frame`.
        """
        ends = time.monotonic() + wait_s
        with self._arrived:
            while True:
                reading = self._readings.get(sensor)
                if reading is not None and reading.frame >= frame:
                    return reading
                left = ends - time.monotonic()
                if left <= 0 or not self._arrived.wait(left):
                    break
            reading = self._readings.get(sensor)
        return reading if reading is not None and reading.frame >= frame - max_age else None
