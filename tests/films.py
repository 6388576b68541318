"""Looks at the pixels of a film."""

from __future__ import annotations

from pathlib import Path

import imageio.v3 as imageio

COLOURS = {"asphalt": (100, 100, 100), "line": (255, 255, 255), "own car": (200, 200, 0)}
OTHER_CAR = (100, 200, 255)


def assert_shows_a_drive(path: Path, among_others: bool = True) -> None:
    """Road and car are in every frame, another car in some, and the world moves from each frame to the next."""
    frames = imageio.imread(path)  # (N, height, width, 3)
    for name, colour in COLOURS.items():
        assert (frames == colour).all(axis=-1).any(axis=(1, 2)).all(), name
    assert (frames == OTHER_CAR).all(axis=-1).any() or not among_others
    moved = (frames[1:] != frames[:-1]).any(axis=-1).mean(axis=(1, 2))
    assert len(moved)
    assert (moved > 0.01).all(), moved
