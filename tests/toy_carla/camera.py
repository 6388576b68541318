"""What a camera sees: the ground by rays, and every car, walker and light as a box before it.

A pinhole camera as CARLA's (its `fov` is horizontal, degrees), without noise, shadows or weather.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from .actors import Actor, TrafficLight, Transform, Vehicle, Walker
from .ground import Ground

Floats = NDArray[np.floating]
SKY = (150, 185, 215)
WALKER = (240, 150, 40)
LIGHTS = {0: (230, 40, 40), 1: (240, 200, 40), 2: (40, 200, 80)}
NEAR_M = 0.1
FACES = ((0, 1, 3, 2), (4, 5, 7, 6), (0, 1, 5, 4), (2, 3, 7, 6), (0, 2, 6, 4), (1, 3, 7, 5))
"""Corners of a box's faces: back, front, left, right, bottom, top; a corner's number has a bit each for x, y and z."""
SHADES = (0.7, 0.8, 0.6, 0.6, 0.3, 1.0)


def axes(transform: Transform) -> Floats:
    """The rows forward, right and up in the world's axes (`carla.Transform.get_matrix`), shape (3, 3)."""
    pitch, yaw, roll = np.radians(transform.rotation)
    cp, sp, cy, sy, cr, sr = (f(a) for a in (pitch, yaw, roll) for f in (math.cos, math.sin))
    forward = (cp * cy, cp * sy, sp)
    right = (cy * sp * sr - sy * cr, sy * sp * sr + cy * cr, -cp * sr)
    up = (-cy * sp * cr - sy * sr, -sy * sp * cr + cy * sr, cp * cr)
    return np.array([forward, right, up], np.float32)


def directions(turn: Floats, width: int, height: int, focal: float) -> list[Floats]:
    """Each pixel's direction in the world's axes, one metre ahead of the camera: x, y and z, each (height, width).

    Sums instead of a matrix product, whose threads would wait for each other on a machine that is busy.
    """
    right = ((np.arange(width) + 0.5 - width / 2) / focal).astype(np.float32)
    up = ((height / 2 - 0.5 - np.arange(height)) / focal).astype(np.float32)
    return [turn[0, axis] + right * turn[1, axis] + (up * turn[2, axis])[:, None] for axis in range(3)]


def render(ground: Ground, actors: Iterable[Actor], camera: Transform, width: int, height: int, fov: float) -> bytes:
    """A picture: BGRA, `height` rows of `width` pixels."""
    turn, place = axes(camera), np.array(camera.location, np.float32)
    focal = width / (2 * math.tan(math.radians(fov) / 2))
    x, y, z = directions(turn, width, height, focal)
    reach = place[2] / -np.minimum(z, np.float32(-1e-4))
    picture = ground.at(place[0] + reach * x, place[1] + reach * y)
    picture[z > -1e-3] = SKY
    image = Image.fromarray(picture)
    draw = ImageDraw.Draw(image)
    for _, color, points in sorted(_faces(actors, turn, place), key=lambda face: -face[0]):
        flat = points[:, 1:] * np.array([1, -1], np.float32) / points[:, :1] * focal + (width / 2, height / 2)
        draw.polygon([(float(x), float(y)) for x, y in flat], fill=color)
    alpha = Image.new("L", (width, height), 255)
    red, green, blue = image.split()
    return Image.merge("RGBA", (blue, green, red, alpha)).tobytes()


Face = tuple[float, tuple[int, int, int], Floats]


def _faces(actors: Iterable[Actor], turn: Floats, place: Floats) -> Iterable[Face]:
    """Distance, colour and corners, in the camera's axes and clipped at NEAR_M, of what lies before the camera."""
    for actor in actors:
        seen = _box(actor)
        if seen is None:
            continue
        color, corners = seen
        from_camera = (corners - place) @ turn.T
        for corner_numbers, shade in zip(FACES, SHADES, strict=True):
            face = _clip(from_camera[list(corner_numbers)])
            if len(face) >= 3:
                shaded = tuple(round(one * shade) for one in color)
                middle = from_camera[list(corner_numbers)].mean(axis=0)
                yield float(np.linalg.norm(middle)), (shaded[0], shaded[1], shaded[2]), face


def _box(actor: Actor) -> tuple[tuple[int, int, int], Floats] | None:
    """Colour, and the corners in the world, shape (8, 3); None for what can't be seen."""
    center, extent = actor.box.center, actor.box.extent
    if isinstance(actor, Vehicle):
        red, green, blue = (int(one) for one in actor.attributes.get("color", "180,30,30").split(","))
        color = (red, green, blue)
    elif isinstance(actor, Walker):
        color = WALKER
    elif isinstance(actor, TrafficLight):  # a lamp on an invisible pole
        color, center, extent = LIGHTS.get(actor.state, (60, 60, 60)), (0.0, 0.0, 4.0), (0.3, 0.3, 0.6)
    else:
        return None
    signs = np.array([[i, j, k] for i in (-1, 1) for j in (-1, 1) for k in (-1, 1)], np.float32)
    local = np.array(center, np.float32) + signs * np.array(extent, np.float32)
    return color, local @ axes(actor.transform) + np.array(actor.transform.location, np.float32)


def _clip(face: Floats) -> Floats:
    """The part of a polygon that lies at least NEAR_M before the camera."""
    kept = []
    for start, end in zip(face, np.roll(face, -1, axis=0), strict=True):
        if start[0] >= NEAR_M:
            kept.append(start)
        if (start[0] >= NEAR_M) != (end[0] >= NEAR_M):
            kept.append(start + (NEAR_M - start[0]) / (end[0] - start[0]) * (end - start))
    return np.array(kept, np.float32)
