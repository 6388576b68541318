"""A film of an episode in an environment of the author's own, where that can draw itself."""

from __future__ import annotations

import inspect
import math
import shutil
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

from carla_mlflow.errors import CarlaMlflowError, DrivingError
from carla_mlflow.escaping import one_line
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
    return drawn[::step, ::step].copy()  # not a view: it may be drawn into again, and is larger than what is kept


def why_not_filmed(own: OwnEnv) -> str | None:
    """Why an environment can't be filmed, as far as that is known before it is made once more; None where it can."""
    modes = own.env.metadata.get("render_modes") or ()
    return None if RENDER_MODE in modes else f"its metadata has no {RENDER_MODE!r} among the render_modes"


def film_own(engine: Engine, own: OwnEnv, seed: int, outcome: Outcome, path: Path) -> None:
    """Drives one seed again in an environment that draws itself, and writes the frames as a GIF.

    Raises:
        DrivingError: it can't draw itself, or its code fails.
    """
    if problem := why_not_filmed(own):
        raise DrivingError(f"{own.name}: can't be filmed: {problem}")
    draw_off_screen()
    env = call(own.name, lambda: _drawing(own.name, own.arguments))
    try:
        if getattr(env, "render_mode", None) != RENDER_MODE:
            raise DrivingError(
                f"{own.name}: can't be filmed: its function has to take render_mode={RENDER_MODE!r} and pass it on"
            )
        filmed = call(own.name, lambda: FilmedEnv(env))
        drive(replace(own, env=filmed), PolicyDriver(engine, filmed), seed, outcome)
        call(own.name, lambda: filmed.write(path))
    finally:
        call(own.name, env.close)


def film_first(
    engine: Engine, own: OwnEnv, seed: int, outcome: Outcome, gif: Path | None, run_id: str | None
) -> str | None:
    """Films one episode, for a file, for a finished MLflow run, or for both; returns why there is no film, or None."""
    with tempfile.TemporaryDirectory() as scratch:
        film = Path(scratch) / "episode.gif"
        try:
            film_own(engine, own, seed, outcome, film)
        except CarlaMlflowError as error:
            return one_line(error)
        if gif is not None:
            shutil.copyfile(film, gif)
        if run_id is not None:
            mlflow.log_artifact(str(film), run_id=run_id)
    return None


def _drawing(name: str, arguments: Mapping[str, Any]) -> Any:
    """Makes the environment again, with the render mode if its function takes one."""
    drawing = {**arguments, "render_mode": RENDER_MODE}
    if not is_function(name):
        return gymnasium.make(name, **drawing)
    function = load_function(name)
    taken = inspect.signature(function).parameters.values()
    takes_it = any(each.name == "render_mode" or each.kind is each.VAR_KEYWORD for each in taken)
    return function(**(drawing if takes_it else arguments))
