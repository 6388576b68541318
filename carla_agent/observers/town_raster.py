"""A raster of a town that the user brings, such as the maps that Roach and CaRL were trained with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from carla_mlflow.errors import DrivingError

from .bird_frame import BirdFrame
from .bird_layouts import BirdLayout, Drawing, Marks, Surface
from .ego import Ego

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class TownRaster:
    """Masks of a whole town. A row lies along the world's x axis, rows follow each other along y.

    Roach's and CaRL's files hold just this:

        with h5py.File("Town01.h5") as file:
            raster = TownRaster(
                {name: file[name][:] for name in ("road", "lane_marking_all", "lane_marking_white_broken")},
                float(file.attrs["pixels_per_meter"]),
                tuple(file.attrs["world_offset_in_meters"]),
            )

    Attributes:
        layers: name → (H, W), of any dtype; what is not 0 is drawn. The names are those in the layout.
        pixels_per_metre: of the masks; it need not be the layout's.
        origin: world x and y of the centre of the first pixel, metres.
    """

    layers: Mapping[str, NDArray[Any]]
    pixels_per_metre: float
    origin: tuple[float, float]

    @cached_property
    def _grown(self) -> dict[str, Mask]:
        """Masks in which a pixel is set when it, or its right, lower or lower right neighbour is.

        OpenCV's bilinear sampling, after which Roach takes what is not 0, sets a point when any of the four pixels
        around it is set; with these masks one look at the upper left one tells it. A border of one pixel is empty.
        """
        return {name: _grow(np.asarray(layer) != 0) for name, layer in self.layers.items()}

    def pixels(self, x: Array, y: Array) -> NDArray[np.intp]:
        """The pixels to look at for world points, metres: flat indices for `sample`, of the same shape."""
        height, width = next(iter(self._grown.values())).shape
        # One more for the border. A cast rounds towards 0, which is down: what is negative lies outside either way.
        column = ((x - self.origin[0]) * self.pixels_per_metre + 1).clip(0, width - 1).astype(np.intp)
        row = ((y - self.origin[1]) * self.pixels_per_metre + 1).clip(0, height - 1).astype(np.intp)
        return np.asarray(row * width + column)

    def sample(self, name: str, pixels: NDArray[np.intp]) -> Mask:
        """Whether a layer is set at each of these pixels."""
        return self._grown[name].reshape(-1).take(pixels)


def _grow(mask: Mask) -> Mask:
    wide = np.pad(mask, ((1, 2), (1, 2)))
    return np.asarray(wide[:-1, :-1] | wide[1:, :-1] | wide[:-1, 1:] | wide[1:, 1:])


class RasterDrawings:
    """Draws a layout's lanes and marks from a raster."""

    def __init__(self, raster: TownRaster, layout: BirdLayout, frame: BirdFrame) -> None:
        """Looks up what the layout takes from the raster.

        Raises:
            DrivingError: the raster lacks a layer.
        """
        self._raster, self._frame = raster, frame
        self._drawn = [
            (index, name, value)
            for index, layer in enumerate(layout.layers)
            for drawing in layer.drawings
            for name, value in _taken(drawing)
        ]
        for _, name, _ in self._drawn:
            if name not in raster.layers:
                there = ", ".join(sorted(raster.layers)) or "none"
                raise DrivingError(f"the layout of {layout.field} draws the raster's layer {name}; it has {there}")

    def draw(self, image: NDArray[np.uint8], ego: Ego) -> None:
        """Draws them into an image (layers, size, size)."""
        pixels = self._raster.pixels(*self._frame.pixel_centres(ego))
        for index, name, value in self._drawn:
            np.putmask(image[index], self._raster.sample(name, pixels), value)


def _taken(drawing: Drawing) -> list[tuple[str, int]]:
    if isinstance(drawing, Surface):
        return [(name, drawing.value) for name in drawing.raster]
    if isinstance(drawing, Marks):
        return [(drawing.raster, drawing.value), (drawing.raster_white_broken, drawing.white_broken)]
    return []
