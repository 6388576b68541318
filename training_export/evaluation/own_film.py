"""A film of an episode in an environment of the author's own, where that can draw itself."""

from __future__ import annotations

import inspect
import math
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import gymnasium
import imageio.v3 as imageio
import mlflow
import numpy as np
from numpy.typing import NDArray

from carla_mlflow.errors import DrivingError
from carla_mlflow.inference.engine import Engine
from training_export.evaluation.own_driving import Outcome, drive
from training_export.evaluation.own_env import OwnEnv, call, is_function, load_function
from training_export.evaluation.own_evaluation import PolicyDriver
from training_export.racetrack.plots import draw_off_screen

RENDER_MODE = "rgb_array"
"""What gymnasium calls drawing into an array."""
MOST_FRAMES = 300
"""Of a film; a longer episode is shown by fewer of its steps."""
MOST_FPS = 20.0
"""Frames a second; browsers slow down GIFs with more."""
MOST_PIXELS = 480
"""On a frame's longer side; a larger one is shown by every second or third of its pixels."""
USUAL_FPS = 10.0
"""Where the environment does not say at what rate its steps are to be shown."""


class FilmedEnv(gymnasium.Wrapper[Any, Any, Any, Any]):
    """Keeps frames of the episode that began with the last reset, evenly spread over it.

    Attributes:
        frames: (H, W, 3) uint8 each.
        every: steps from one frame to the next.
    """

    def __init__(self, env: gymnasium.Env[Any, Any]) -> None:
        super().__init__(env)
        self._fps = float(env.metadata.get("render_fps") or USUAL_FPS)
        self.frames: list[NDArray[np.uint8]] = []
        self._steps, self.every = 0, 1

    def reset(self, **given: Any) -> Any:
        begun = self.env.reset(**given)
        self._steps, self.every = 0, math.ceil(self._fps / MOST_FPS)
        self.frames = [_frame(self.env)]
        return begun

    def step(self, action: Any) -> Any:
        stepped = self.env.step(action)
        self._steps += 1
        if self._steps % self.every == 0:
            self.frames.append(_frame(self.env))
        if len(self.frames) > MOST_FRAMES:
            self.frames, self.every = self.frames[::2], self.every * 2
        return stepped

    def write(self, path: Path) -> None:
        """Writes a looping GIF in the environment's own time."""
        shown_ms = round(1000 * self.every / self._fps)
        imageio.imwrite(path, np.stack(self.frames), extension=".gif", duration=shown_ms, loop=0)


def _frame(env: gymnasium.Env[Any, Any]) -> NDArray[np.uint8]:
    drawn = np.asarray(env.render())
    if drawn.dtype != np.uint8 or drawn.ndim != 3 or drawn.shape[2] != 3:
        raise DrivingError(f"render() gave {drawn.dtype} {drawn.shape}; expected uint8 (height, width, 3)")
    step = math.ceil(max(drawn.shape) / MOST_PIXELS)
    return drawn[::step, ::step]


def film_own(engine: Engine, own: OwnEnv, seed: int, outcome: Outcome, path: Path) -> None:
    """Drives one seed again in an environment that draws itself, and writes the frames as a GIF.

    Raises:
        DrivingError: it can't draw itself, or its code fails.
    """
    if RENDER_MODE not in own.env.metadata.get("render_modes", ()):
        raise DrivingError(f"{own.name}: can't be filmed: its metadata has no {RENDER_MODE!r} among the render_modes")
    draw_off_screen()
    env = call(own.name, lambda: _drawing(own.name, own.arguments))
    try:
        if env.render_mode != RENDER_MODE:
            raise DrivingError(
                f"{own.name}: can't be filmed: its function has to take render_mode={RENDER_MODE!r} and pass it on"
            )
        filmed = FilmedEnv(env)
        drive(replace(own, env=filmed), PolicyDriver(engine, filmed), seed, outcome)
        call(own.name, lambda: filmed.write(path))
    finally:
        call(own.name, env.close)


def log_film(engine: Engine, own: OwnEnv, seed: int, outcome: Outcome) -> bool:
    """Logs a film of one episode to the active MLflow run, and returns True; says why where there can be none."""
    with tempfile.TemporaryDirectory() as scratch:
        gif = Path(scratch) / "episode.gif"
        try:
            film_own(engine, own, seed, outcome, gif)
        except DrivingError as error:
            print(f"no film: {error}")
            return False
        mlflow.log_artifact(str(gif))
    return True


def _drawing(name: str, arguments: Mapping[str, Any]) -> Any:
    """Makes the environment again, with the render mode if its function takes one."""
    drawing = {**arguments, "render_mode": RENDER_MODE}
    if not is_function(name):
        return gymnasium.make(name, **drawing)
    function = load_function(name)
    taken = inspect.signature(function).parameters.values()
    takes_it = any(each.name == "render_mode" or each.kind is each.VAR_KEYWORD for each in taken)
    return function(**(drawing if takes_it else arguments))
