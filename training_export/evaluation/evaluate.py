"""Closed-loop evaluation: the exported policy on seeds that training never saw, compared with two simple drivers."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import mlflow

from carla_mlflow.contract.card import Card
from carla_mlflow.contract.history import frame_spec
from carla_mlflow.errors import DrivingError
from carla_mlflow.flavor.card_in_run import log_card
from carla_mlflow.flavor.opening import PolicyIdentity
from carla_mlflow.inference.engine import Engine
from carla_mlflow.look import bar
from training_export.evaluation.applied_latency import LATENCY, TRACE_FILE, AppliedLatency
from training_export.evaluation.delayed import Delay, DelayedDriver, Simple
from training_export.evaluation.episode_driver import EpisodeDriver
from training_export.evaluation.evidence_run import log_drives
from training_export.evaluation.rewards_plot import plot_rewards
from training_export.racetrack.beams import rasterise
from training_export.racetrack.conditions import Conditions
from training_export.racetrack.driving import (
    Driver,
    Episode,
    drive_episode,
    random_driver,
    straight_ahead,
    summarise,
)
from training_export.racetrack.env import ENV_ID, Beams, Racetrack, env_version
from training_export.racetrack.fine import FineRacetrack, fine_version
from training_export.racetrack.plots import FRAME_EVERY, film_env, plot_trajectories, write_gif


def check_racetrack(card: Card) -> None:
    """Raises DrivingError unless the policy takes the racetrack's observations, and answers pedals."""
    seen = {spec.name: spec.shape for spec in frame_spec(card.observation)}
    shown = {name: tuple(box.shape) for name, box in Beams.boxes().items()}
    if seen != shown:
        raise DrivingError(
            f"{card.name} {card.version} sees {_shapes(seen)}, the racetrack shows {_shapes(shown)}; name its own "
            "environment: evaluate … --env ID, any that gymnasium knows, or --env my_env.py:make"
        )
    if not card.action.is_pedals:
        raise DrivingError(
            f"{card.name} {card.version} answers {', '.join(card.action.control_names)}, the racetrack takes throttle, "
            "brake and steer; name its own environment: evaluate … --env ID"
        )


def engine_driver(engine: Engine, latency: AppliedLatency | None = None) -> Driver:
    """The policy as a driver; with a latency under which it has driven, driving so again."""
    driver = EpisodeDriver(engine)
    return driver if latency is None else DelayedDriver(driver, latency.again())


def run_episodes(driver: Driver, conditions: Conditions, what: str) -> list[Episode]:
    """Drives every seed, with a progress bar; a DelayedDriver in the environment of fine steps."""
    env = _env_of(driver, conditions)
    try:
        return [_drive(env, driver, seed) for seed in bar(what, conditions.episodes, "episode", conditions.seeds)]
    finally:
        env.close()


def _env_of(driver: Driver, conditions: Conditions) -> Racetrack:
    if isinstance(driver, DelayedDriver):
        return FineRacetrack(driver.at, conditions.traffic, conditions.duration_s)
    return Racetrack(traffic=conditions.traffic, duration_s=conditions.duration_s)


def _drive(env: Racetrack, driver: Driver, seed: int, frame_every: int = 0) -> Episode:
    if isinstance(driver, DelayedDriver):
        driver.begin_at(seed)
    return drive_episode(env, driver, seed, frame_every)


def closed_loop(episodes: list[Episode], conditions: Conditions) -> dict[str, Any]:
    """Conditions and figures, for the card's metrics."""
    return {
        "env": ENV_ID,
        "traffic": conditions.traffic,
        "duration_s": conditions.duration_s,
        "first_seed": conditions.first_seed,
        **summarise(episodes),
    }


def _shapes(fields: dict[str, tuple[int, ...]]) -> str:
    return ", ".join(f"{name} {list(shape)}" for name, shape in fields.items())


Drives = dict[str, list[Episode]]
"""Driver → its episodes, all on the same seeds."""


def drive_beside(policy: list[Episode], conditions: Conditions, delay: Delay | None = None) -> Drives:
    """The policy's episodes, and those of a straight-ahead and a random driver on the same seeds.

    Under a latency the others have it, too.
    """

    def delayed(driver: Driver) -> Driver:
        return driver if delay is None else DelayedDriver(Simple(driver), delay)

    return {
        "policy": policy,
        "straight_ahead": run_episodes(delayed(straight_ahead), conditions, "straight ahead"),
        "random": run_episodes(delayed(random_driver(conditions.first_seed)), conditions, "random"),
    }


def film(driver: Driver, seed: int, conditions: Conditions, path: Path) -> None:
    """Drives one seed again with frames, and writes them as a GIF."""
    at = driver.at if isinstance(driver, DelayedDriver) else None
    env = film_env(conditions.traffic, conditions.duration_s, at)
    try:
        write_gif(path, _drive(env, driver, seed, frame_every=FRAME_EVERY))
    finally:
        env.close()


def log_evaluation(
    engine: Engine,
    drives: Drives,
    conditions: Conditions,
    reward_margin: float | None = None,
    latency: AppliedLatency | None = None,
) -> None:
    """Logs an evaluation to the active MLflow run: evidence for the registry's gates, and pictures for people.

    The gates find it by the artifact's digest. episodes.json has one row per episode and driver; the run's parameters
    are the conditions.
    """
    figures = {driver: summarise(episodes) for driver, episodes in drives.items()}
    parameters = {"env": ENV_ID, "env_version": env_version(), **vars(conditions), "reward_margin": reward_margin}
    if latency is not None:
        parameters |= {"env_version": fine_version(), **latency.parameters()}
    log_drives(
        PolicyIdentity(engine.card.name, engine.card.version, engine.digest),
        {} if latency is not None and latency.server else {"backend": engine.backend, "device": engine.device.name},
        parameters,
        figures if latency is None else {**figures, LATENCY: latency.applied.figures()},
        [{"driver": driver, **episode.row()} for driver, episodes in drives.items() for episode in episodes],
    )
    log_card(engine.card)
    _log_pictures(engine, drives, conditions, latency)


def _log_pictures(engine: Engine, drives: Drives, conditions: Conditions, latency: AppliedLatency | None) -> None:
    policy = drives["policy"]
    ended = {
        "no fault": [each for each in policy if each.succeeded],
        "off road": [each for each in policy if each.off_road and not each.crashed],
        "collision": [each for each in policy if each.crashed],
    }
    mlflow.log_figure(plot_rewards(ended, "straight ahead", drives["straight_ahead"]), "outcomes.png")
    env = Racetrack()
    mlflow.log_figure(plot_trajectories(policy, rasterise(env.road.network)), "trajectories.png")
    env.close()
    with tempfile.TemporaryDirectory() as scratch:
        gif = Path(scratch) / "episode.gif"
        film(engine_driver(engine, latency), conditions.first_seed, conditions, gif)
        mlflow.log_artifact(str(gif))
        if latency is not None:
            trace = Path(scratch) / TRACE_FILE
            latency.trace.write(trace)
            mlflow.log_artifact(str(trace))
