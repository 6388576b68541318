"""carla-export: turns a trained policy into a policy artifact, and logs it to MLflow."""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from carla_mlflow.cli import DONE, natural, progress, run_command
from carla_mlflow.command_parser import CommandParser, add_common, add_policy_version
from carla_mlflow.completion import print_completion, shell_of
from carla_mlflow.contract.backend_names import BACKENDS
from carla_mlflow.errors import ExportError
from carla_mlflow.look import say_next, show, size
from training_export.racetrack.conditions import Conditions
from training_export.sources.draft_schema import PrintSchema

if TYPE_CHECKING:
    from carla_mlflow.artifact.artifact import Artifact
    from training_export.export.export import Export
    from training_export.sources.source import SourceOptions
    from training_export.sources.trained import TrainedPolicy

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


def export(options: argparse.Namespace) -> int:
    if not options.output and not options.log and not options.dry_run:
        return int(options.usage("nowhere to write to: pass --output DIR, --log or both (or --dry-run)"))
    if options.output and options.output.exists():
        raise ExportError(f"{options.output}: already exists; remove it or write elsewhere")
    if ":" not in options.source and not Path(options.source).exists():
        raise ExportError(f"{options.source}: there is no such file or folder")
    progress("loading")
    from training_export.sources.source import open_source

    opened = open_source(_source_options(options))
    from training_export.export.export import export_policy
    from training_export.export.report import facts, print_comparison, print_noise, print_unknown

    draft, trained = opened.draft, opened.trained
    name, version = options.name or draft.name, options.version or draft.version
    print(f"found     {opened.kind} {options.source}: {facts(trained)}")
    if trained.assumed:
        print(f"assumed   {trained.assumed}")
    stated = None if draft.parity is None else draft.parity.parity
    print_unknown(trained)
    backend = None if options.backend == "auto" else options.backend
    exported = export_policy(trained, name, version, options.description or draft.description, stated, backend)
    print_noise(exported.reference, stated is not None, trained.action.control_names)
    print_comparison(exported, trained)
    artifact = _measured(exported, trained, options.episodes)
    if options.dry_run:
        print(f"dry run   nothing written; it would be {name} {version} {artifact.digest}")
        return _done(options, artifact, None)
    if options.output:
        from carla_mlflow.artifact.artifact import write_artifact

        artifact = write_artifact(options.output, artifact)
        count = sum(len(data) for data in artifact.files.values())
        print(f"wrote     {options.output}: {', '.join(artifact.files)}; {size(count)}")
    print(f"artifact  {name} {version} {artifact.digest}")
    return _done(options, artifact, _log(artifact, opened.run_id) if options.log else None)


def _done(options: argparse.Namespace, artifact: Artifact, uri: str | None) -> int:
    """Prints the result as JSON, if that is asked for, and the command that comes next."""
    card, output = artifact.card, str(options.output) if options.output and not options.dry_run else None
    if options.json:
        known = {"name": card.name, "version": card.version, "digest": artifact.digest}
        show(True, "", {**known, "output": output, "uri": uri, "metrics": dict(card.metrics)})
    if uri is not None:
        say_next(f"carla-registry register {uri} --name {shlex.quote(card.name)}")
    elif output is not None:
        say_next(f"carla-registry register {shlex.quote(output)}")
    return DONE


def _source_options(options: argparse.Namespace) -> SourceOptions:
    from carla_mlflow.preprocessing.skops_file import operators_types
    from training_export.sources.source import SourceOptions

    types = operators_types(options.trust_types)
    env = None
    if options.env:
        from training_export.evaluation.own_env import open_own_env

        env = open_own_env(options.env, options.env_config).env
    return SourceOptions(
        options.source,
        options.card,
        options.preprocessor,
        options.vecnormalize,
        options.no_vecnormalize,
        options.trust_pickle,
        types,
        env,
        options.env or "",
    )


def _measured(exported: Export, trained: TrainedPolicy, episodes: int) -> Artifact:
    from training_export.export.export import measure_latency, with_metrics

    metrics: dict[str, Any] = {"latency_ms": measure_latency(exported.engine)}
    print("latency   one observation on one thread: p50 {p50} ms, p99 {p99} ms".format(**metrics["latency_ms"]["cpu"]))
    if episodes and trained.driving is not None:
        from training_export.evaluation.evaluate import closed_loop, engine_driver, run_episodes

        conditions = Conditions(episodes, traffic=trained.training.get("traffic", 0))
        driven = run_episodes(engine_driver(exported.engine), conditions, "driving")
        loop = metrics["closed_loop"] = closed_loop(driven, conditions)
        print(
            f"drove     {episodes} unseen seeds: {loop['success_rate']:.0%} of episodes without a fault, "
            f"{loop['speed_mps_mean']:.1f} m/s, collisions {loop['collision_rate']:.0%}, "
            f"off road {loop['off_road_rate']:.0%}"
        )
    return with_metrics(exported, metrics)


def _log(artifact: Artifact, run_id: str | None) -> str:
    """Logs the artifact to MLflow → the model's URI."""
    from carla_mlflow.flavor.model import log_policy
    from carla_mlflow.flavor.runs import logging_run

    with logging_run(run_id, name=f"export {artifact.card.name} {artifact.card.version}"):
        uri = log_policy(artifact)
    print(f"logged    {uri}")
    return str(uri)


def build_parser() -> CommandParser:
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
    parser.set_defaults(run=export)
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


def main(arguments: Sequence[str] | None = None) -> int:
    given = sys.argv[1:] if arguments is None else list(arguments)
    if shell := shell_of(given):
        return print_completion(build_parser(), shell, "train")
    return run_command(build_parser(), given, extra="train")


if __name__ == "__main__":
    sys.exit(main())
