"""Where an actor's box lies on the ground, and whether two of them meet."""

from __future__ import annotations

import math

from .actors import Actor, Transform

Point = tuple[float, float]


def corners(actor: Actor, transform: Transform | None = None) -> list[Point]:
    """The four corners of the actor's box in the world, or of where it would be."""
    placed = transform or actor.transform
    cos, sin = math.cos(math.radians(placed.yaw)), math.sin(math.radians(placed.yaw))
    (cx, cy, _), (ex, ey, _) = actor.box.center, actor.box.extent
    x, y, _ = placed.location
    return [
        (x + (cx + i * ex) * cos - (cy + j * ey) * sin, y + (cx + i * ex) * sin + (cy + j * ey) * cos)
        for i, j in ((1, 1), (1, -1), (-1, -1), (-1, 1))
    ]


def overlap(ours: list[Point], theirs: list[Point]) -> bool:
    """Whether two rectangles meet: none of their four axes has a gap between them."""
    for first, second, third, _ in (ours, theirs):
        for (ax, ay), (bx, by) in ((first, second), (second, third)):
            nx, ny = bx - ax, by - ay
            spans = [[nx * x + ny * y for x, y in points] for points in (ours, theirs)]
            if max(spans[0]) < min(spans[1]) or max(spans[1]) < min(spans[0]):
                return False
    return True


def compose(parent: Transform, relative: Transform) -> Transform:
    """Where something is that is fixed to a parent which stands upright, as everything in this world does."""
    cos, sin = math.cos(math.radians(parent.yaw)), math.sin(math.radians(parent.yaw))
    (px, py, pz), (x, y, z) = parent.location, relative.location
    pitch, yaw, roll = relative.rotation
    return Transform((px + x * cos - y * sin, py + x * sin + y * cos, pz + z), (pitch, parent.yaw + yaw, roll))
