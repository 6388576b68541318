"""A bird's eye view of the car's surroundings: road, route, marks, actors and lights as the channels of an image."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from carla_mlflow import ArraySpec, DrivingError, ObservationSpec

from .bird_frame import BirdFrame
from .bird_layouts import ROACH, Agents, Band, BirdLayout, Lights, Seen, Stops
from .bird_route import RouteAhead
from .bird_seen import Moment, band_of, shapes_of
from .bird_shapes import Array, Shapes, joined
from .bird_static import StaticShapes
from .boxes import Actors, BoxReader
from .ego import Ego, EgoSource, vehicle_id
from .observer import Snapshot
from .polygons import Indices, covered_pixels
from .road_map import RoadMap
from .route import Route
from .stop_lines import StopLine, find_stop_lines
from .stop_signs import StopSignAhead, find_stop_signs
from .town_raster import RasterDrawings, TownRaster

Image = NDArray[np.uint8]
Drawn = dict[Seen, Shapes]


class BirdView:
    """Makes one field: an image seen from above, channels first, by a layout such as ROACH or CARL.

    The car's forward is up and its right is right; BirdFrame says where exactly. A pixel is set when its centre lies in
    what is drawn (with a raster: when any of the four raster pixels around it is set).

    Lanes, marks and signs are polygons, made once per town and layout from the map, so that a town of any size takes
    little memory. Parked cars that belong to the town's scenery are no actors, and are not drawn.
    """

    def __init__(
        self,
        ego: EgoSource,
        carla_map: Any,
        others: Actors,
        layout: BirdLayout = ROACH,
        route: Route | None = None,
        raster: TownRaster | None = None,
        field: str | None = None,
    ) -> None:
        """Reads the town, which takes up to some seconds for a large one that was not read before.

        Args:
            ego: the driven car.
            carla_map: a `carla.Map`, such as `world.get_map()`.
            others: the world, or a function that returns all actors, traffic lights and stop signs among them.
            layout: of the image.
            route: which the car follows; needed when the layout draws it.
            raster: of the town, drawn in place of the map's lanes and marks.
            field: name of the field; None: the layout's.

        Raises:
            DrivingError: the map has no lane to drive on, the raster lacks a layer, or a route is needed.
        """
        self._ego, self._map, self._layout, self._frame = ego, carla_map, layout, BirdFrame(layout)
        self._raster = None if raster is None else RasterDrawings(raster, layout, self._frame)
        drawings = [drawing for layer in layout.layers for drawing in layer.drawings]
        self._field = field or layout.field
        if route is None and any(isinstance(drawing, Band) for drawing in drawings):
            raise DrivingError(f"the layout of {self._field} draws the route: give BirdView a route")
        self._route = None if route is None else RouteAhead(route, carla_map, layout)
        self._static = StaticShapes(layout, self._frame, RoadMap.of(carla_map), carla_map, raster is not None)
        seen = (drawing for drawing in drawings if isinstance(drawing, Agents | Lights | Stops))
        self._seen: tuple[Seen, ...] = tuple(dict.fromkeys(seen))
        self._others, self._boxes = others, self._box_reader(others)
        self._history: deque[tuple[float, Drawn]] = deque()
        self._lines: list[StopLine] | None = None  # looked up at the first tick
        shape = (len(layout.layers), layout.size, layout.size)
        self._spec = ObservationSpec([ArraySpec(self._field, "uint8", shape, 0, 255)])

    def _box_reader(self, others: Actors) -> BoxReader:
        agents = [drawing for drawing in self._seen if isinstance(drawing, Agents)]
        kinds = tuple(kind for drawing in agents for kind in drawing.kinds)
        return BoxReader(others, kinds, vehicle_id(self._ego), any(drawing.lamps for drawing in agents))

    @property
    def spec(self) -> ObservationSpec:
        """One uint8 field (layers, size, size), in [0, 255], unit "1"."""
        return self._spec

    def reset(self) -> None:
        """Begins a route: forgets earlier ticks, and looks up traffic lights and stop signs again."""
        self._history.clear()
        self._lines = None
        if self._route is not None:
            self._route.reset()

    def observe(self, snapshot: Snapshot) -> Mapping[str, NDArray[Any]] | None:
        """The image at one tick; None while the route is not known. Call it at every tick: it keeps the history."""
        ego = self._ego.read(snapshot)
        if self._lines is None:
            self._look_up()
        if self._route is not None and not self._route.advance(ego):
            return None
        self._remember(snapshot.timestamp.elapsed_seconds, ego)
        image = np.zeros(self._spec[0].shape, dtype=np.uint8)
        if self._raster is not None:
            self._raster.draw(image, ego)
        self._paint(image, ego, *self._static.near(np.array(ego.location[:2])))
        self._paint(image, ego, *self._moving(snapshot.timestamp.elapsed_seconds))
        return {self._field: image}

    def _look_up(self) -> None:
        actors = list(self._others() if callable(self._others) else self._others.get_actors())
        self._lines = find_stop_lines((a for a in actors if a.type_id == "traffic.traffic_light"), self._map)
        self._line_places: Array = np.array([line.ends.mean(axis=0) for line in self._lines]).reshape(-1, 2)
        signs = find_stop_signs(a for a in actors if a.type_id == "traffic.stop")
        self._stops = StopSignAhead(signs, self._map)

    def _remember(self, seconds: float, ego: Ego) -> None:
        seen_m = self._layout.seen_m
        assert self._lines is not None  # looked up before
        near = np.abs(self._line_places - ego.location[:2]).max(axis=1) <= seen_m
        lines = [self._lines[index] for index in np.flatnonzero(near)]
        of_route = [] if self._route is None else [line for line in lines if self._route.passes(line.carriageway)]
        boxes = self._boxes.read(ego, seen_m)
        moment = Moment(boxes, lines, of_route, self._stops.tick(ego), self._frame.metres)
        self._history.append((seconds, {drawing: shapes_of(drawing, moment) for drawing in self._seen}))
        oldest = seconds - (max(layer.ago for layer in self._layout.layers) + 1) / self._layout.history_hz
        while self._history[0][0] < oldest:
            self._history.popleft()

    def _moving(self, now: float) -> tuple[Shapes, Indices]:
        parts: list[Shapes] = []
        layers: list[int] = []
        for index, layer in enumerate(self._layout.layers):
            drawn = self._at(now - layer.ago / self._layout.history_hz)
            for drawing in layer.drawings:
                if isinstance(drawing, Band) and self._route is not None:
                    points, is_drawn = self._route.ahead(drawing)
                    parts.append(band_of(drawing, points, is_drawn, self._frame.metres))
                elif isinstance(drawing, Agents | Lights | Stops):
                    parts.append(drawn[drawing])
                else:
                    continue
                layers.append(index)
        return joined(parts), np.repeat(layers, [len(part) for part in parts]).astype(np.intp)

    def _at(self, seconds: float) -> Drawn:
        """What was seen then, or at the first tick if that is later."""
        latest = seconds + 0.25 / self._layout.history_hz
        return next((drawn for then, drawn in reversed(self._history) if then <= latest), self._history[0][1])

    def _paint(self, image: Image, ego: Ego, shapes: Shapes, layers: Indices) -> None:
        size = self._frame.size
        pixels, owners = covered_pixels(self._frame.to_pixels(shapes.polygons, ego), size, size)
        image.reshape(-1)[layers[owners] * (size * size) + pixels] = shapes.values[owners]
