"""A film of a drive: a camera behind the car, written as a GIF."""

from __future__ import annotations

import os
import queue
from pathlib import Path
from typing import Any

import carla
from PIL import Image

from carla_mlflow import DrivingError

WIDTH, HEIGHT = 480, 270
FRAMES_HZ = 10
BEHIND = carla.Transform(carla.Location(x=-8.0, z=4.0), carla.Rotation(pitch=-15.0))
"""Relative to the car: metres and degrees."""
FRAME_S = 2.0
"""How long to wait for the picture of a tick."""


class Film:
    """Frames of a camera behind a car."""

    def __init__(self, path: Path, world_hz: float) -> None:
        """Films to that file.

        Raises:
            DrivingError: the file can't be written there.
        """
        if not path.parent.is_dir() or path.is_dir():
            raise DrivingError(f"{path}: can't be written: its folder is not there, or it is a folder itself")
        self._path = path
        self._every = max(round(world_hz / FRAMES_HZ), 1)
        self._milliseconds = round(1000 * self._every / world_hz)
        self._images: queue.Queue[Any] = queue.Queue()
        self._frames: list[Image.Image] = []
        self._ticks = 0

    def blueprint(self, library: Any) -> Any:
        """The camera to attach at `BEHIND`; give its pictures to `receive`."""
        camera = library.find("sensor.camera.rgb")
        camera.set_attribute("image_size_x", str(WIDTH))
        camera.set_attribute("image_size_y", str(HEIGHT))
        return camera

    def receive(self, image: Any) -> None:
        """Takes a `carla.Image` from the camera's thread."""
        self._images.put(image)

    def add(self, frame: int) -> None:
        """Keeps the picture of that tick, if it is one of the film's.

        Raises:
            DrivingError: the camera gives no pictures.
        """
        self._ticks += 1
        try:
            image = self._images.get(timeout=FRAME_S)
            while image.frame < frame:
                image = self._images.get(timeout=FRAME_S)
        except queue.Empty:
            raise DrivingError(f"the camera gave no picture of tick {frame} within {FRAME_S:g} s") from None
        if self._ticks % self._every == 1 or self._every == 1:
            size = (image.width, image.height)
            picture = Image.frombuffer("RGB", size, bytes(image.raw_data), "raw", "BGRX", 0, 1)
            self._frames.append(picture.quantize(64))  # a tenth of the memory, and what a GIF holds anyway

    def write(self) -> bool:
        """Writes the GIF beside its path and renames it; False when there is no frame."""
        if not self._frames:
            return False
        beside = self._path.with_name(f".{self._path.name}.{os.getpid()}")
        first, *others = self._frames
        first.save(beside, "GIF", save_all=True, append_images=others, duration=self._milliseconds, loop=0)
        beside.replace(self._path)
        return True
