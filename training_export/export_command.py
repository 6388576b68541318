"""carla-export: turns a trained policy into a policy artifact, and logs it to MLflow."""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from carla_mlflow.cli import DONE, progress, run_command
from carla_mlflow.command_parser import CommandParser
from carla_mlflow.completion import print_completion, shell_of
from carla_mlflow.errors import ExportError
from carla_mlflow.look import say_next, show, size
from training_export.export_flags import export_parser
from training_export.racetrack.conditions import Conditions

if TYPE_CHECKING:
    from carla_mlflow.artifact.artifact import Artifact
    from training_export.export.export import Export
    from training_export.sources.source import SourceOptions
    from training_export.sources.trained import TrainedPolicy


def export(options: argparse.Namespace) -> int:
    if not options.output and not options.log and not options.dry_run:
        return int(options.usage("nowhere to write to: pass --output DIR, --log or both (or --dry-run)"))
    if options.output and options.output.exists():
        raise ExportError(f"{options.output}: already exists; remove it or write elsewhere")
    _check_files(options)
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
        print(f"dry run   nothing written; it would be {name} {version}")  # latencies differ, and with them its digest
        return _done(options, artifact, None)
    if options.output:
        from carla_mlflow.artifact.artifact import write_artifact

        artifact = write_artifact(options.output, artifact)
        count = sum(len(data) for data in artifact.files.values())
        print(f"wrote     {options.output}: {', '.join(artifact.files)}; {size(count)}")
    print(f"artifact  {name} {version} {artifact.digest}")
    return _done(options, artifact, _log(artifact, opened.run_id) if options.log else None)


def _check_files(options: argparse.Namespace) -> None:
    """Raises ExportError for a file that is not there, before what takes seconds to import."""
    code, is_code, _ = options.source.rpartition(".py:")
    source = f"{code}.py" if is_code else options.source
    if (is_code or ":" not in source) and not Path(source).exists():
        raise ExportError(f"{source}: there is no such file or folder")
    for file in (options.card, options.preprocessor, options.vecnormalize, options.env_config):
        if file is not None and not file.is_file():
            raise ExportError(f"{file}: there is no such file")


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
    from carla_mlflow.preprocessing.trust_types import operators_types
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
    parser = export_parser()
    parser.set_defaults(run=export)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    given = sys.argv[1:] if arguments is None else list(arguments)
    if shell := shell_of("carla-export", given):
        return print_completion(build_parser(), shell, "train")
    return run_command(build_parser(), given, extra="train")


if __name__ == "__main__":
    sys.exit(main())
