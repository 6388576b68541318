"""The flags of evaluate, and what its help says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from carla_mlflow.command_parser import add_command
from training_export.evaluation.flags import add_conditions, add_margin
from training_export.evaluation.latency_flags import add_latency
from training_export.racetrack.conditions import Conditions

DESCRIPTION = """\
Drives a policy on seeds that its training never saw, and compares it with simpler drivers: on the racetrack with one
that drives straight ahead and one that acts at random; in an environment of your own (--env) with a driver of yours,
or with one that acts at random.
"""
NOTES = """\
an environment of your own: any that gymnasium knows (`highway_env:highway-v0` imports the package that registers it),
or a function that returns one (`my_env.py:make`); --env-config holds the keyword arguments of either, in YAML. The
policy sees the fields of the environment's Dict of observations, or its Box as the field `observation`, and the
environment gets the policy's raw actions unchanged. An episode has failed if it had a collision or did not succeed.
The environment is its author's code, and runs unchecked.

latency: without --latency and --through the world waits for each action. With them one request is under way at a time;
its action applies at the first step of the simulation (of 10 ms: an environment of its own, with evidence of its own)
after it has landed, the action before until then, and the card's fallback before the first.
docs/how-to/latency.md says more.
"""


def add_evaluate(commands: Any) -> Any:
    """Adds the command → its parser; whoever calls it sets the default `run`."""
    command = add_command(
        commands,
        "evaluate",
        "drive on unseen seeds, and compare with simpler drivers",
        [
            "python -m training_export evaluate examples/v0.1.0 --episodes 5",
            "python -m training_export evaluate mine@0.2.0 --log",
            "python -m training_export evaluate mine@0.2.0 --log --env my_env.py:make --success-key is_success",
        ],
        description=DESCRIPTION,
        notes=NOTES,
    )
    command.add_argument(
        "model", metavar="MODEL", help="artifact folder, NAME@1.4.2, runs:/ID/policy or models:/NAME@ALIAS"
    )
    command.add_argument(
        "--log", action="store_true", help="log episodes, plots and a film to MLflow, as evidence for promotion"
    )
    add_margin(command)
    _add_own_env(command.add_argument_group("an environment of your own, not the racetrack"))
    add_latency(command)
    add_conditions(command, Conditions.episodes, judges=True)
    return command


def _add_own_env(group: Any) -> None:
    group.add_argument("--env", metavar="ID", help="which; see below")
    group.add_argument("--env-config", type=Path, metavar="FILE", help="its keyword arguments, in YAML or JSON")
    group.add_argument("--success-key", metavar="KEY", help="key of `info` at the last step: true on success")
    group.add_argument(
        "--collision-key", metavar="KEY", help="key of `info` at any step: true or non-zero on a collision"
    )
    group.add_argument(
        "--baseline",
        metavar="FILE:CALLABLE",
        help="a function of observations that a first champion is compared with (default: random actions)",
    )
