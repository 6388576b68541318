"""A film of a drive: a camera behind the car, written as a GIF."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Any

import carla
from PIL import Image

from carla_mlflow import DrivingError
from carla_mlflow.escaping import one_line

WIDTH, HEIGHT = 480, 270
FRAMES_HZ = 10
MAX_FRAMES = 1200
"""Each takes 130 kB of memory; longer films have fewer frames per second."""
COLOURS = 64
BEHIND = carla.Transform(carla.Location(x=-8.0, z=4.0), carla.Rotation(pitch=-15.0))
"""Relative to the car: metres and degrees."""
FRAME_S = 5.0
"""How long to wait for the picture of a tick, seconds."""


class Film:
    """Frames of a camera behind a car. `receive` is called by the camera's thread."""

    def __init__(self, path: Path, world_hz: float) -> None:
        """Opens the film's file.

        Raises:
            DrivingError: it can't be written there.
        """
        self._path, self._hz = path, world_hz
        self._beside = path.with_name(f".{path.name}.{os.getpid()}")
        try:
            if path.is_dir():
                raise IsADirectoryError("it is a folder")
            self._file = self._beside.open("wb")
        except OSError as error:
            raise DrivingError(f"{path}: the film can't be written there: {one_line(error)}") from error
        self._every = max(round(world_hz / FRAMES_HZ), 1)
        self._frames: list[tuple[int, Image.Image]] = []
        self._latest = -1
        self._came = threading.Condition()

    def blueprint(self, library: Any) -> Any:
        """The camera to attach at `BEHIND`; give its pictures to `receive`."""
        camera = library.find("sensor.camera.rgb")
        camera.set_attribute("image_size_x", str(WIDTH))
        camera.set_attribute("image_size_y", str(HEIGHT))
        return camera

    def receive(self, image: Any) -> None:
        """Takes a `carla.Image`, and keeps it if it is one of the film's."""
        if image.frame % self._every == 0:
            size = (image.width, image.height)
            picture = Image.frombuffer("RGB", size, bytes(image.raw_data), "raw", "BGRX", 0, 1)
            self._frames.append((image.frame, picture.quantize(COLOURS)))
            if len(self._frames) == MAX_FRAMES:
                self._every *= 2
                self._frames = [(frame, kept) for frame, kept in self._frames if frame % self._every == 0]
        with self._came:
            self._latest = image.frame
            self._came.notify_all()

    def wait_for(self, frame: int) -> None:
        """Waits for the picture of a tick, so that the world does not run ahead of its camera.

        Raises:
            DrivingError: none comes.
        """
        with self._came:
            if not self._came.wait_for(lambda: self._latest >= frame, FRAME_S):
                raise DrivingError(f"the camera gave no picture of tick {frame} within {FRAME_S:g} s")

    def write(self) -> bool:
        """Writes the GIF whole, or leaves no file behind where there is no frame; says whether there is one.

        Raises:
            DrivingError: it can't be written, such as on a full disk.
        """
        pictures = [picture for _, picture in self._frames]
        try:
            with self._file:
                if pictures:
                    milliseconds = round(1000 * self._every / self._hz)
                    more = {"save_all": True, "append_images": pictures[1:], "duration": milliseconds, "loop": 0}
                    pictures[0].save(self._file, "GIF", **more)
            if pictures:
                self._beside.replace(self._path)
        except OSError as error:
            raise DrivingError(f"{self._path}: the film could not be written: {one_line(error)}") from error
        finally:
            self._beside.unlink(missing_ok=True)
        return bool(pictures)
