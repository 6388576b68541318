"""The flags of carla-export, and what its help says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from carla_mlflow.cli import natural
from carla_mlflow.command_parser import CommandParser, add_common, add_policy_version
from carla_mlflow.contract.backend_names import BACKENDS
from training_export.racetrack.conditions import Conditions
from training_export.sources.draft_schema import PrintSchema

NOTES = """\
sources:
  checkpoint/            written by `python -m training_export train`
  runs:/ID, runs:/latest the checkpoint of an MLflow run
  policy.py:build        build() returns a torch module, or module, observation space, action space
  package.module:build   likewise
  model.zip              Stable-Baselines3: PPO, A2C, SAC, TD3, DDPG, DQN; sb3-contrib: TRPO, TQC, CrossQ, QR-DQN, ARS,
                         MaskablePPO, RecurrentPPO; needs --trust-pickle
  model.pt, model.onnx   a network in TorchScript or ONNX that returns the head's parameters; rsl_rl, Isaac Lab
  v1.2.0/                an artifact of the original layout; needs --card, and --trust-pickle for its preprocessor
All but checkpoints need --card FILE with what the source does not contain: docs/how-to/export.md has an example,
docs/how-to/recipes.md one for each of rsl_rl, Isaac Lab, CleanRL, RLlib and TorchRL. Where the bounds of raw actions
are not [-1, 1] (of pedals: [0, 1]), its action section says what the values mean: full_throttle, full_brake,
full_right. A Stable-Baselines3 policy that was trained in an environment of highway-env needs none with --env ID: its
actions then have the environment's own names and labels.
"""
EXAMPLES = (
    "carla-export checkpoint --name carla-policy --version 0.1.0 --output policies/0.1.0",
    "carla-export runs:/latest --log",
    "carla-export policy.py:build --card card.yaml --output policies/0.1.0",
    "carla-export ppo.zip --card card.yaml --trust-pickle --log",
)
NAME, VERSION = "carla-policy", "0.1.0"
"""Of a policy whose card and command line say neither."""


def export_parser() -> CommandParser:
    """The parser; whoever calls it sets the default `run`."""
    parser = CommandParser(
        "carla-export",
        EXAMPLES,
        NOTES,
        description="Exports a trained policy with all that it needs to act, and checks that the export acts the same.",
    )
    parser.add_argument("source", metavar="SOURCE", help="the trained policy; see below")
    _add_result(parser.add_argument_group("what is written"))
    _add_policy(parser.add_argument_group("what the policy is called"))
    _add_source(parser.add_argument_group("what the source does not contain"))
    _add_trust(parser.add_argument_group("what you trust"))
    add_common(parser)
    return parser


def _add_result(group: Any) -> None:
    group.add_argument("--output", type=Path, metavar="DIR", help="the artifact folder to write; must not exist")
    group.add_argument("--log", action="store_true", help="log the artifact to MLflow as a pyfunc model")
    group.add_argument(
        "--episodes",
        type=natural,
        default=Conditions.episodes,
        metavar="N",
        help="closed-loop episodes for the card's figures (default %(default)s)",
    )
    group.add_argument("--dry-run", action="store_true", help="load, export and compare, but write nothing")


def _add_policy(group: Any) -> None:
    group.add_argument("--name", metavar="NAME", help=f"the policy's name (default: the card's, or {NAME})")
    add_policy_version(group, f"the card's, or {VERSION}")
    group.add_argument("--description", default="", metavar="TEXT", help="one line for the card")
    group.add_argument(
        "--backend",
        default="auto",
        choices=("auto", *BACKENDS),
        help="what the card names, and so every consumer runs: auto is the faster of torchscript and onnx; openvino "
        "only where it is asked for, since each consumer then needs it",
    )


def _add_source(group: Any) -> None:
    group.add_argument(
        "--card", type=Path, metavar="FILE", help="YAML with observation, action, name, version, description"
    )
    group.add_argument("--schema", action=PrintSchema, help="print that file's JSON schema, for editors, and exit")
    group.add_argument(
        "--preprocessor", type=Path, metavar="FILE", help="fitted scikit-learn transformer (.skops, or a pickle)"
    )
    group.add_argument(
        "--env", metavar="ID", help="the environment of training, if it is highway-env's: it says what actions mean"
    )
    group.add_argument("--env-config", type=Path, metavar="FILE", help="its keyword arguments, in YAML or JSON")
    normalised = group.add_mutually_exclusive_group()
    normalised.add_argument("--vecnormalize", type=Path, metavar="FILE", help="VecNormalize's pickle, for model.zip")
    normalised.add_argument(
        "--no-vecnormalize", action="store_true", help="model.zip was trained without VecNormalize, despite signs of it"
    )


def _add_trust(group: Any) -> None:
    group.add_argument(
        "--trust-pickle", action="store_true", help="read pickles among the sources, which runs the code in them"
    )
    group.add_argument(
        "--trust-types",
        metavar="A,B",
        help="your own types in the preprocessor, such as my_pkg.features.Clipper",
    )
