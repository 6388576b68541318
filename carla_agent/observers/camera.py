"""A camera's image as a field of an observation: BGRA rows of pixels become planes of the card's shape."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from carla_mlflow import ArraySpec, ContractError, DrivingError, ObservationSpec

from .observer import Snapshot
from .sensor_feed import SensorFeed

STORED = "bgra"
"""The order of a pixel's four bytes in `carla.Image.raw_data` (CARLA's sensor reference), and so in a leaderboard's
array (leaderboard/envs/sensor_interface.py)."""


class Camera:
    """One uint8 field of shape (channels, height, width), values 0 to 255, the first row at the top."""

    def __init__(
        self,
        feed: SensorFeed,
        field: str,
        shape: tuple[int, int, int],
        sensor: str = "rgb",
        channels: str = "rgb",
        wait_s: float = 1.0,
        max_age: int = 1,
    ) -> None:
        """Names the field and the camera.

        Args:
            feed: gets the camera's images.
            field: the card's field.
            shape: the card's: channels, height, width.
            sensor: the camera's id in the feed.
            channels: which ones, in which order, as letters of r, g, b and a. carla_garage and CaRL take rgb.
            wait_s: how long a tick's image is waited for. In synchronous mode the world stands still meanwhile; 0
                where it does not. Afterwards the image of an earlier tick is taken.
            max_age: how many ticks earlier that may be; where the camera's `sensor_tick` is n ticks, n - 1, with
                `wait_s` 0.

        Raises:
            DrivingError: the channels are no such letters, or not as many as the shape has.
        """
        if not channels or set(channels) - set(STORED) or len(channels) != shape[0]:
            raise DrivingError(f"{field}: {channels!r} does not name {shape[0]} of a camera's channels r, g, b and a")
        self._feed, self._field, self._sensor = feed, field, sensor
        self._planes = [STORED.index(channel) for channel in channels]
        self._wait_s, self._max_age = wait_s, max_age
        self._spec = ObservationSpec([ArraySpec(field, "uint8", shape, 0, 255)])

    @property
    def spec(self) -> ObservationSpec:
        """The one field."""
        return self._spec

    def reset(self) -> None:
        """Begins a route: the image of the route before is forgotten."""
        self._feed.forget(self._sensor)

    def observe(self, snapshot: Snapshot) -> Mapping[str, NDArray[Any]] | None:
        """The image of that tick, of a later one that is there already, or of one up to `max_age` before; else None.

        Raises:
            ContractError: the camera has another resolution than the card. Nothing is resized: a policy would see
                what it was not trained on.
        """
        reading = self._feed.at(self._sensor, snapshot.frame, self._wait_s, self._max_age)
        if reading is None:
            return None
        pixels = _pixels(reading.data)
        shape = self._spec[0].shape
        if pixels.shape != (*shape[1:], len(STORED)):
            raise ContractError(
                f"{self._field}: the card's images are {shape[2]} × {shape[1]} pixels, the camera {self._sensor} sends "
                f"{' × '.join(map(str, pixels.shape[1::-1]))}; set its image_size_x and image_size_y"
            )
        image = np.empty(shape, np.uint8)
        for plane, stored in zip(image, self._planes, strict=True):
            plane[:] = pixels[:, :, stored]
        return {self._field: image}


def _pixels(data: Any) -> NDArray[np.uint8]:
    """A leaderboard's array, or a view of a `carla.Image`: uint8 (height, width, 4)."""
    if isinstance(data, np.ndarray):
        return data
    return np.frombuffer(data.raw_data, np.uint8).reshape(data.height, data.width, len(STORED))
