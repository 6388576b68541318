"""Filling polygons agrees with a point-in-polygon test at every pixel's centre."""

from __future__ import annotations

import numpy as np
import shapely
from hypothesis import given
from hypothesis import strategies as st

from carla_agent.observers.polygons import covered_pixels

HEIGHT, WIDTH = 9, 13


def mask_of(polygons: np.ndarray) -> np.ndarray:
    """How many times each pixel is covered."""
    pixels, _ = covered_pixels(np.asarray(polygons, dtype=np.float64), HEIGHT, WIDTH)
    return np.bincount(pixels, minlength=HEIGHT * WIDTH).reshape(HEIGHT, WIDTH)


def convex(rng: np.random.Generator, corners: int) -> np.ndarray:
    """Corners on an ellipse, which may lie partly or wholly outside the image."""
    angles = np.sort(rng.uniform(0, 2 * np.pi, corners))
    angles = angles if rng.random() < 0.5 else angles[::-1]
    middle, half = rng.uniform((-4, -4), (WIDTH + 4, HEIGHT + 4)), rng.uniform(0.3, 8, 2)
    return middle + half * np.stack([np.cos(angles), np.sin(angles)], axis=1)


@given(st.integers(0, 2**32 - 1), st.integers(3, 8))
def test_a_pixel_is_covered_when_its_centre_lies_inside(seed, corners):
    polygons = np.array([convex(np.random.default_rng(seed + number), corners) for number in range(5)])
    row, column = np.mgrid[:HEIGHT, :WIDTH]
    pixels, owners = covered_pixels(polygons, HEIGHT, WIDTH)
    for number, polygon in enumerate(polygons):
        wanted = shapely.contains_xy(shapely.Polygon(polygon), column, row)
        assert np.array_equal(np.sort(pixels[owners == number]), np.flatnonzero(wanted))


@given(st.integers(0, 2**32 - 1))
def test_polygons_that_share_edges_leave_no_pixel_out_and_cover_none_twice(seed):
    rng = np.random.default_rng(seed)
    # A grid of quadrilaterals over the whole image, whose inner corners are shaken.
    x, y = np.meshgrid(np.linspace(-2, WIDTH + 1, 5), np.linspace(-2, HEIGHT + 1, 4))
    grid = np.stack([x, y], axis=-1)
    grid[1:-1, 1:-1] += rng.uniform(-0.8, 0.8, (2, 3, 2))
    cells = np.stack([grid[:-1, :-1], grid[:-1, 1:], grid[1:, 1:], grid[1:, :-1]], axis=2).reshape(-1, 4, 2)
    assert np.all(mask_of(cells) == 1)


def test_centres_on_the_left_and_upper_edge_are_inside_and_those_on_the_others_are_not():
    assert np.argwhere(mask_of([[(2, 3), (4, 3), (4, 5), (2, 5)]])).tolist() == [[3, 2], [3, 3], [4, 2], [4, 3]]


def test_a_polygon_without_area_and_no_polygon_at_all_cover_nothing():
    assert not mask_of([[(2.5, 3.5)] * 4]).any()
    assert not mask_of(np.empty((0, 4, 2))).any()
