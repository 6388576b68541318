"""python -m training_export train | evaluate | log-evidence | drive"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from carla_mlflow.cli import DONE, INTERRUPTED, add_debug, natural, positive, run_command
from training_export.evaluate_command import add_evaluate_command
from training_export.evaluation.flags import add_conditions, racetrack_conditions
from training_export.log_evidence_command import add_log_evidence_command


def train(options: argparse.Namespace) -> int:
    from carla_mlflow.flavor.runs import logging_run
    from training_export.training.checkpoint import TrainingConfig
    from training_export.training.train import train as train_policy

    config = TrainingConfig(options.total_timesteps, options.seed, options.traffic)
    with logging_run(name=f"train {config.total_timesteps:,} steps") as run_id:
        completed = train_policy(config, options.output, options.resume)
    print(f"{'trained' if completed else 'stopped early, usable:'} {options.output}")
    print(f"MLflow run {run_id}: parameters, curves, learning_curve.png, checkpoint/")
    print(f"next: carla-export runs:/{run_id} --log")
    return DONE if completed else INTERRUPTED


def drive(options: argparse.Namespace) -> int:
    from carla_mlflow.client.client import PolicyClient
    from training_export.evaluation.drive import drive_remote
    from training_export.evaluation.evaluate import check_racetrack
    from training_export.evaluation.evidence_run import table
    from training_export.racetrack.driving import summarise

    with PolicyClient(options.url) as client:
        check_racetrack(client.card)
        conditions = racetrack_conditions(options, client.card.training)
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
    commands = parser.add_subparsers(required=True, metavar="train | evaluate | log-evidence | drive")

    command = commands.add_parser(
        "train", help="PPO on highway-env's racetrack, logged to MLflow; Ctrl-C keeps a checkpoint"
    )
    command.add_argument(
        "--total-timesteps", type=positive(int), default=80_000, help="environment steps (default %(default)s)"
    )
    command.add_argument("--seed", type=natural, default=0)
    command.add_argument("--traffic", type=natural, default=0, help="the most other cars on the track (default none)")
    command.add_argument(
        "--output", type=Path, default=Path("checkpoint"), help="checkpoint folder (default %(default)s)"
    )
    command.add_argument("--resume", type=Path, metavar="CHECKPOINT", help="continue from this checkpoint folder")
    command.set_defaults(run=train)
    add_debug(command)

    add_evaluate_command(commands)
    add_log_evidence_command(commands)

    command = commands.add_parser("drive", help="drive in the environment with the actions of a running server")
    command.add_argument("--url", required=True, help="the server, such as http://127.0.0.1:8080")
    add_conditions(command, 3)
    command.set_defaults(run=drive)
    add_debug(command)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    return run_command(build_parser(), arguments, extra="train")


if __name__ == "__main__":
    sys.exit(main())
