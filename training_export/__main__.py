"""python -m training_export train | evaluate | log-evidence | drive"""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from carla_mlflow.cli import DONE, INTERRUPTED, natural, positive, progress, run_command
from carla_mlflow.client.server_key import API_KEY
from carla_mlflow.command_parser import CommandParser, add_command, add_common, add_help
from carla_mlflow.look import say_next, show
from training_export.evaluate_command import add_evaluate_command
from training_export.evaluation.flags import add_conditions, racetrack_conditions
from training_export.log_evidence_command import add_log_evidence_command

if TYPE_CHECKING:
    from training_export.evaluation.drive import RemoteDrive

TOTAL_TIMESTEPS = 100_000
"""As in MLproject: enough for a car that stays on the empty track most of the time."""


def train(options: argparse.Namespace) -> int:
    progress("loading PyTorch and MLflow")
    from carla_mlflow.flavor.runs import logging_run
    from training_export.training.checkpoint import TrainingConfig
    from training_export.training.train import train as train_policy

    config = TrainingConfig(options.total_timesteps, options.seed, options.traffic)
    with logging_run(name=f"train {config.total_timesteps:,} steps") as run_id:
        completed = train_policy(config, options.output, options.resume)
    text = (
        f"{'trained' if completed else 'stopped early, usable:'} {options.output}\n"
        f"MLflow run {run_id}: parameters, curves, learning_curve.png, checkpoint/"
    )
    show(options.json, text, {"checkpoint": str(options.output), "completed": completed, "run_id": run_id})
    say_next(f"carla-export runs:/{run_id} --log")
    return DONE if completed else INTERRUPTED


def drive(options: argparse.Namespace) -> int:
    progress(f"asking {options.url} what drives there, and loading the racetrack")
    from carla_mlflow.client.client import PolicyClient
    from training_export.evaluation.drive import drive_remote
    from training_export.evaluation.evaluate import check_racetrack
    from training_export.racetrack.driving import summarise

    with PolicyClient(options.url, api_key=os.environ.get(API_KEY, "")) as client:
        check_racetrack(client.card)
        conditions = racetrack_conditions(options, client.card.training)
        result = drive_remote(client, conditions, options.gif)
    _print_drive(result, client.card.name)
    if options.gif:
        print(f"film: {options.gif}")
    if options.json:
        driven = [
            {"version": version, "digest": digest, "answers": n} for (version, digest), n in result.versions.items()
        ]
        latency = {"p50_ms": result.latency(50), "p99_ms": result.latency(99), "answers": len(result.latencies_ms)}
        figures = {"policy": client.card.name, **summarise(result.episodes)}
        show(True, "", {**figures, "driven_by": driven, "latency": latency, "gif": options.gif and str(options.gif)})
    say_next(f"carla-registry history {shlex.quote(client.card.name)}")
    return DONE


def _print_drive(result: RemoteDrive, name: str) -> None:
    from training_export.evaluation.evidence_run import figures_table
    from training_export.racetrack.driving import summarise

    for episode in result.episodes:
        print("  ".join(f"{key} {value}" for key, value in episode.row().items()))
    print(figures_table({name: summarise(result.episodes)}))
    print(f"answers: {len(result.latencies_ms)}, p50 {result.latency(50):.2f} ms, p99 {result.latency(99):.2f} ms")
    for (version, digest), count in result.versions.items():
        print(f"driven by: {name} {version} {digest} ({count} answers)")


def build_parser() -> CommandParser:
    parser = CommandParser(
        "python -m training_export",
        ["python -m training_export train --total-timesteps 100000", "python -m training_export evaluate mine@0.1.0"],
        description="Train a driving policy, evaluate it, drive with it.",
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND", title="commands")
    _add_train(commands)
    add_evaluate_command(commands)
    add_log_evidence_command(commands)
    _add_drive(commands)
    for command in commands.choices.values():
        add_common(command)
    add_help(parser)
    return parser


def _add_train(commands: Any) -> None:
    command = add_command(
        commands,
        "train",
        "PPO on highway-env's racetrack, logged to MLflow; Ctrl-C or SIGTERM keeps a checkpoint",
        [
            "python -m training_export train --total-timesteps 100000 --output checkpoint",
            "python -m training_export train --resume checkpoint --total-timesteps 200000",
        ],
    )
    command.add_argument(
        "--total-timesteps",
        type=positive(int),
        default=TOTAL_TIMESTEPS,
        metavar="N",
        help="environment steps (default %(default)s)",
    )
    command.add_argument(
        "--seed",
        type=natural,
        default=0,
        metavar="N",
        help="of the environments, the networks and the scaler (default %(default)s)",
    )
    command.add_argument(
        "--traffic", type=natural, default=0, metavar="N", help="the most other cars on the track (default %(default)s)"
    )
    command.add_argument(
        "--output", type=Path, default=Path("checkpoint"), metavar="DIR", help="checkpoint folder (default %(default)s)"
    )
    command.add_argument("--resume", type=Path, metavar="DIR", help="continue from this checkpoint folder")
    command.set_defaults(run=train)


def _add_drive(commands: Any) -> None:
    command = add_command(
        commands,
        "drive",
        "drive in the environment with the actions of a running server",
        ["python -m training_export drive --url http://127.0.0.1:8080 --episodes 1 --gif drive.gif"],
    )
    command.add_argument("--url", required=True, metavar="URL", help="the server, such as http://127.0.0.1:8080")
    add_conditions(command, 3)
    command.set_defaults(run=drive)


def main(arguments: Sequence[str] | None = None) -> int:
    return run_command(build_parser(), arguments, extra="train")


if __name__ == "__main__":
    sys.exit(main())
