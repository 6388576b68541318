"""python -m training_export train | evaluate | drive"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from carla_mlflow.cli import DONE, INTERRUPTED, REFUSED, add_debug, natural, positive, run_command
from training_export.conditions import Conditions


def train(options: argparse.Namespace) -> int:
    from carla_mlflow.mlflow_model import logging_run
    from training_export.checkpoint import TrainingConfig
    from training_export.train import train as train_policy

    config = TrainingConfig(options.total_timesteps, options.seed, options.traffic)
    with logging_run(name=f"train {config.total_timesteps:,} steps") as run_id:
        completed = train_policy(config, options.output, options.resume)
    print(f"{'trained' if completed else 'stopped early, usable:'} {options.output}")
    print(f"MLflow run {run_id}: parameters, curves, learning_curve.png, checkpoint/")
    print(f"next: carla-export runs:/{run_id} --log")
    return DONE if completed else INTERRUPTED


def evaluate(options: argparse.Namespace) -> int:
    from carla_mlflow.mlflow_model import logging_run
    from training_export.driving import summarise
    from training_export.evaluate import (
        closed_loop,
        drive_beside,
        engine_driver,
        film,
        log_evaluation,
        run_episodes,
        table,
    )
    from training_export.opening import open_engine

    with tempfile.TemporaryDirectory() as scratch:
        engine = open_engine(options.model, Path(scratch))
    card = engine.card
    traffic = card.training.get("traffic", 0) if options.traffic is None else options.traffic
    conditions = Conditions(options.episodes, options.first_seed, traffic, options.duration)
    episodes = run_episodes(engine_driver(engine), conditions, f"{card.name} {card.version}")
    drives = drive_beside(episodes, conditions)
    print(f"{card.name} {card.version} {engine.digest}")
    print(f"{conditions.episodes} seeds from {conditions.first_seed}, traffic {traffic}, {conditions.duration_s:g} s")
    print(table({driver: summarise(driven) for driver, driven in drives.items()}))
    if options.gif:
        film(engine_driver(engine), conditions.first_seed, conditions, options.gif)
        print(f"film: {options.gif}")
    if options.log:
        with logging_run(name=f"evaluate {card.name} {card.version}") as run_id:
            log_evaluation(engine, drives, conditions)
        print(f"MLflow run {run_id}: figures, episodes.json, outcomes.png, trajectories.png, episode.gif")
    return _compare_with_card(closed_loop(episodes, conditions), card.metrics.get("closed_loop"))


def _compare_with_card(measured: dict[str, object], said: dict[str, object] | None) -> int:
    conditions = ("env", "traffic", "duration_s", "first_seed", "episodes")
    if not said or any(said.get(key) != measured[key] for key in conditions):
        return DONE
    different = {key: (said.get(key), value) for key, value in measured.items() if said.get(key) != value}
    if not different:
        print("the card's figures: reproduced")
        return DONE
    for key, (was, now) in different.items():
        print(f"{key}: the card says {was}, measured here {now}", file=sys.stderr)
    return REFUSED


def drive(options: argparse.Namespace) -> int:
    from carla_mlflow.client import PolicyClient
    from training_export.drive import drive_remote
    from training_export.driving import summarise
    from training_export.evaluate import table

    with PolicyClient(options.url) as client:
        traffic = client.card.training.get("traffic", 0) if options.traffic is None else options.traffic
        conditions = Conditions(options.episodes, options.first_seed, traffic, options.duration)
        result = drive_remote(client, conditions, options.gif)
    for episode in result.episodes:
        print("  ".join(f"{key} {value}" for key, value in episode.row().items()))
    print(table({client.card.name: summarise(result.episodes)}))
    print(f"answers: {len(result.latencies_ms)}, p50 {result.latency(50):.2f} ms, p99 {result.latency(99):.2f} ms")
    for (version, digest), count in result.versions.items():
        print(f"driven by: {client.card.name} {version} {digest} ({count} answers)")
    if options.gif:
        print(f"film: {options.gif}")
    return DONE


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "training_export", description="Train a driving policy, evaluate it, drive with it."
    )
    commands = parser.add_subparsers(required=True, metavar="train | evaluate | drive")

    command = commands.add_parser(
        "train", help="PPO on highway-env's racetrack, logged to MLflow; Ctrl-C keeps a checkpoint"
    )
    command.add_argument(
        "--total-timesteps", type=positive(int), default=80_000, help="environment steps (default %(default)s)"
    )
    command.add_argument("--seed", type=natural, default=0)
    command.add_argument("--traffic", type=natural, default=0, help="most other cars on the track (default none)")
    command.add_argument(
        "--output", type=Path, default=Path("checkpoint"), help="checkpoint folder (default %(default)s)"
    )
    command.add_argument("--resume", type=Path, metavar="CHECKPOINT", help="go on from this checkpoint folder")
    command.set_defaults(run=train)
    add_debug(command)

    command = commands.add_parser("evaluate", help="closed loop on unseen seeds, beside two simple drivers")
    command.add_argument("model", help="artifact folder, NAME@1.4.2, runs:/ID/policy or models:/NAME@ALIAS")
    command.add_argument(
        "--log", action="store_true", help="log episodes, plots and a film to MLflow: evidence for its promotion"
    )
    _add_conditions(command, Conditions.episodes)
    command.set_defaults(run=evaluate)
    add_debug(command)

    command = commands.add_parser("drive", help="a car in the environment that asks a running server at every tick")
    command.add_argument("--url", required=True, help="the server, such as http://127.0.0.1:8080")
    _add_conditions(command, 3)
    command.set_defaults(run=drive)
    add_debug(command)
    return parser


def _add_conditions(command: argparse.ArgumentParser, episodes: int) -> None:
    command.add_argument("--episodes", type=positive(int), default=episodes, help="one a seed (default %(default)s)")
    command.add_argument(
        "--first-seed",
        type=natural,
        default=Conditions.first_seed,
        help="(default %(default)s; training never sees it)",
    )
    command.add_argument("--traffic", type=natural, help="most other cars (default: what the policy was trained with)")
    command.add_argument(
        "--duration",
        type=positive(float),
        default=Conditions.duration_s,
        help="seconds an episode (default %(default)s)",
    )
    command.add_argument("--gif", type=Path, help="film the first episode")


def main(arguments: Sequence[str] | None = None) -> int:
    return run_command(build_parser(), arguments)


if __name__ == "__main__":
    sys.exit(main())
