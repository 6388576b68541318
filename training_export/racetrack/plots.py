"""The pictures for people in MLflow: learning curve, trajectories, a film of an episode."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import imageio.v3 as imageio
import numpy as np
from matplotlib.figure import Figure

from training_export.racetrack.beams import CELL_M, TrackRaster
from training_export.racetrack.driving import Episode
from training_export.racetrack.env import RATE_HZ, Racetrack
from training_export.racetrack.fine import ControlAt, FineRacetrack

FRAMES_PER_SECOND = 5


def plot_learning_curve(curve: list[tuple[int, float, float]]) -> Figure:
    """Mean reward and length of recent episodes against environment steps."""
    steps, rewards, seconds = zip(*curve, strict=True)
    figure = Figure(figsize=(8, 4), layout="constrained")
    left = figure.subplots()
    left.plot(steps, rewards, color="tab:blue")
    left.set_xlabel("environment steps")
    left.set_ylabel("episode reward (mean of 100)", color="tab:blue")
    right = left.twinx()
    right.plot(steps, seconds, color="tab:orange")
    right.set_ylabel("seconds until the end", color="tab:orange")
    return figure


def plot_trajectories(episodes: list[Episode], raster: TrackRaster) -> Figure:
    """Where each episode's car drove, on the track; red where it ended early."""
    figure = Figure(figsize=(8, 6), layout="constrained")
    axes = figure.subplots()
    width, height = np.array(raster.road.shape) * CELL_M
    x, y = raster.origin
    axes.imshow(raster.road.T, extent=(x, x + width, y + height, y), cmap="Greys", alpha=0.25)
    for episode in episodes:
        path = np.array(episode.positions)
        axes.plot(path[:, 0], path[:, 1], color="tab:green" if episode.succeeded else "tab:red", linewidth=1, alpha=0.6)
        if not episode.succeeded:
            axes.plot(*path[-1], marker="x", color="tab:red")
    axes.set_xlabel("m")
    axes.set_ylabel("m")
    axes.set_title(f"{sum(e.succeeded for e in episodes)} of {len(episodes)} episodes without a fault")
    return figure


def draw_off_screen() -> None:
    """Lets pygame draw where there is no screen."""
    # With `dummy` alone, even if the user set it, highway-env draws nothing. SDL takes the first that it has.
    os.environ["SDL_VIDEODRIVER"] = "offscreen,dummy"


def film_env(traffic: int, duration_s: float = 30.0, control_at: ControlAt | None = None) -> Racetrack:
    """An environment that renders small frames off screen, centred on the car; with `control_at`, one of fine steps."""
    draw_off_screen()
    shown: dict[str, Any] = {"traffic": traffic, "duration_s": duration_s, "render_mode": "rgb_array"}
    env = Racetrack(**shown) if control_at is None else FineRacetrack(control_at, **shown)
    env.config.update(screen_width=360, screen_height=240, scaling=4.0)
    return env


FRAME_EVERY = RATE_HZ // FRAMES_PER_SECOND


def write_gif(path: Path, episode: Episode) -> None:
    """Writes an episode's frames as a looping GIF, in real time."""
    frames = np.stack(episode.frames)
    imageio.imwrite(path, frames, extension=".gif", duration=1000 // FRAMES_PER_SECOND, loop=0)
