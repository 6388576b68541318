"""python -m training_export log-evidence: logs a report of how a policy drove in a simulator elsewhere."""

from __future__ import annotations

import argparse
import shlex
import tempfile
from pathlib import Path
from typing import Any

from carla_mlflow.cli import DONE, positive
from carla_mlflow.command_parser import add_command
from carla_mlflow.look import say_next, show
from training_export.evaluate_command import print_figures
from training_export.evaluation.flags import add_margin


def log_evidence(options: argparse.Namespace) -> int:
    from carla_mlflow.flavor.opening import identify
    from carla_mlflow.flavor.runs import EVIDENCE_TAG, SELF_REPORTED, logging_run
    from training_export.evaluation.described import refresh_description
    from training_export.evaluation.evidence_run import log_drives
    from training_export.evaluation.own_driving import rows_of, summarise
    from training_export.evaluation.reported import read_reported

    drives = read_reported(options.file)
    with tempfile.TemporaryDirectory() as scratch:
        policy = identify(options.model, Path(scratch))
    figures = {driver: summarise(episodes) for driver, episodes in drives.items()}
    seeds = [episode.seed for episode in drives["policy"]]
    parameters = {"env": options.env, "env_version": options.env_version, "reward_margin": options.reward_margin}
    parameters |= {"latency": options.latency, "budget_ms": options.budget_ms}
    parameters |= {"first_seed": seeds[0], "episodes": len(seeds)}
    print(f"{policy.name} {policy.version} {policy.digest}")
    print_figures(figures, options.reward_margin)
    with logging_run(name=f"evidence {policy.name} {policy.version}") as run_id:
        log_drives(policy, {EVIDENCE_TAG: SELF_REPORTED}, parameters, figures, rows_of(drives))
    print(f"MLflow run {run_id}: {SELF_REPORTED}, as the gates and the journal will say; figures, episodes.json")
    refresh_description(options.model)
    if options.json:
        known = {"policy": policy.name, "version": policy.version, "digest": policy.digest}
        show(True, "", {**known, "figures": figures, "run_id": run_id})
    say_next(f"carla-registry promote {shlex.quote(f'{policy.name}@{policy.version}')} --to production")
    return DONE


def add_log_evidence_command(commands: Any) -> None:
    command = add_command(
        commands,
        "log-evidence",
        "log evidence from a simulator elsewhere, tagged as self-reported",
        ["python -m training_export log-evidence mine@0.2.0 drives.csv --env town05 --env-version 0.9.16"],
    )
    command.add_argument("model", metavar="REF", help="the policy that drove, as for evaluate")
    command.add_argument(
        "file", type=Path, metavar="FILE", help="CSV: driver (policy, baseline), seed, success, collision, reward"
    )
    command.add_argument("--env", required=True, metavar="NAME", help="the environment, such as town05")
    command.add_argument(
        "--env-version",
        required=True,
        metavar="TEXT",
        help="the environment's version: episodes are compared only if it is equal",
    )
    command.add_argument(
        "--latency", metavar="TEXT", help="under which latency it drove, such as 35ms: compared like the version"
    )
    command.add_argument(
        "--budget-ms", type=positive(float), metavar="MS", help="after which a late action was the fallback"
    )
    add_margin(command)
    command.set_defaults(run=log_evidence)
