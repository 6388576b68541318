"""carla-export: a trained policy → a policy artifact → MLflow."""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from carla_mlflow.cli import DONE, USAGE, add_debug, natural, run_command
from carla_mlflow.errors import ExportError

if TYPE_CHECKING:
    from carla_mlflow.artifact import Artifact
    from training_export.export import Export
    from training_export.trained import TrainedPolicy

EPILOG = """\
sources:
  checkpoint/            what `python -m training_export train` left
  runs:/ID, runs:/latest the checkpoint of an MLflow run
  policy.py:build        build() returns a torch module; needs --card
  package.module:build   likewise

exit codes: 0 done, 1 refused, 2 usage, 3 registry unreachable
"""


def export(options: argparse.Namespace) -> int:
    if not options.output and not options.log and not options.dry_run:
        print("carla-export: say where to: --output DIR, --log, or both (or --dry-run)", file=sys.stderr)
        return USAGE
    if options.output and options.output.exists():
        raise ExportError(f"{options.output}: already exists; remove it or write elsewhere")
    with tempfile.TemporaryDirectory() as scratch:
        trained, name, version, description, run_id = _open_source(options, Path(scratch))
    from training_export.export import export_policy

    print(f"found     {options.source}: {_facts(trained)}")
    exported = export_policy(trained, name, version, description)
    print(
        f"compared  {exported.rows:,} observations with the trained policy: largest difference "
        f"{exported.largest_difference:.1e}"
    )
    artifact = _measured(exported, trained, options.episodes)
    if options.dry_run:
        print(f"dry run   nothing written; it would be {name} {version} {artifact.digest}")
        return DONE
    if options.output:
        from carla_mlflow.artifact import write_artifact

        artifact = write_artifact(options.output, artifact)
        size = sum(len(data) for data in artifact.files.values())
        print(f"wrote     {options.output}: {', '.join(artifact.files)}; {size / 1e3:.0f} kB")
    print(f"artifact  {name} {version} {artifact.digest}")
    if options.log:
        _log(artifact, run_id)
    return DONE


def _open_source(options: argparse.Namespace, scratch: Path) -> tuple[TrainedPolicy, str, str, str, str | None]:
    source: str = options.source
    if ":" in source and not source.startswith("runs:/"):
        from training_export.from_module import from_module, read_draft

        if not options.card:
            raise ExportError(f"{source}: a module needs --card FILE with its observation and action sections")
        draft = read_draft(options.card)
        trained = from_module(source, draft, None)
        return trained, options.name or draft.name, options.version or draft.version, draft.description, None
    run_id, folder = None, Path(source)
    if source.startswith("runs:/"):
        run_id, folder = _download_checkpoint(source, scratch)
    from training_export.checkpoint import open_checkpoint
    from training_export.from_checkpoint import from_checkpoint

    checkpoint = open_checkpoint(folder)
    trained = from_checkpoint(checkpoint)
    description = options.description or f"PPO on {trained.training['env']}, {checkpoint.steps:,} steps"
    return trained, options.name or "carla-policy", options.version or "0.1.0", description, run_id


def _download_checkpoint(source: str, scratch: Path) -> tuple[str, Path]:
    import mlflow
    from mlflow.exceptions import MlflowException

    from carla_mlflow.mlflow_model import expand_latest

    run_id = expand_latest(source).removeprefix("runs:/").partition("/")[0]
    try:
        return run_id, Path(
            mlflow.artifacts.download_artifacts(run_id=run_id, artifact_path="checkpoint", dst_path=str(scratch))
        )
    except (MlflowException, OSError) as error:
        raise ExportError(f"runs:/{run_id}: has no checkpoint: {error}") from error


def _facts(trained: TrainedPolicy) -> str:
    fields = ", ".join(f"{name} {field.dtype}{field.shape}" for name, field in trained.observation.items())
    parameters = sum(tensor.numel() for tensor in trained.graph.parameters())
    return f"{fields} → {trained.action.head} {list(trained.action.raw)}, {parameters:,} parameters"


def _measured(exported: Export, trained: TrainedPolicy, episodes: int) -> Artifact:
    from training_export.export import measure_latency, with_metrics

    metrics: dict[str, Any] = {"latency_ms": measure_latency(exported.engine)}
    print("latency   one observation on one thread: p50 {p50} ms, p99 {p99} ms".format(**metrics["latency_ms"]["cpu"]))
    if episodes and trained.driving is not None:
        from training_export.conditions import Conditions
        from training_export.evaluate import closed_loop, engine_driver, run_episodes

        conditions = Conditions(episodes, traffic=trained.training.get("traffic", 0))
        driven = run_episodes(engine_driver(exported.engine), conditions, "driving")
        loop = metrics["closed_loop"] = closed_loop(driven, conditions)
        print(
            f"drove     {episodes} unseen seeds: {loop['whole_rate']:.0%} whole episodes, "
            f"{loop['speed_mps_mean']:.1f} m/s, collisions {loop['collision_rate']:.0%}, "
            f"off road {loop['off_road_rate']:.0%}"
        )
    return with_metrics(exported, metrics)


def _log(artifact: Artifact, run_id: str | None) -> None:
    from carla_mlflow.mlflow_model import log_policy, logging_run

    with logging_run(run_id, name=f"export {artifact.card.name} {artifact.card.version}"):
        uri = log_policy(artifact)
    print(f"logged    {uri}")
    print(f"next: carla-registry register {uri} --name {artifact.card.name}")


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "carla-export",
        description="Exports a trained policy with everything it needs to act, compared with the trained policy first.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("source", help="what was trained; see below")
    parser.add_argument("--output", type=Path, metavar="DIR", help="the artifact folder to write; must not exist")
    parser.add_argument("--log", action="store_true", help="log the artifact to MLflow as a pyfunc model")
    parser.add_argument(
        "--card", type=Path, metavar="FILE", help="YAML with observation, action, name, version, description"
    )
    parser.add_argument("--name", help="of the policy (default: the card's, or carla-policy)")
    parser.add_argument("--version", help="semantic version (default: the card's, or 0.1.0)")
    parser.add_argument("--description", default="", help="one line for the card")
    parser.add_argument(
        "--episodes", type=natural, default=20, help="closed-loop episodes for the card's figures (default 20)"
    )
    parser.add_argument("--dry-run", action="store_true", help="find, export and compare, but write nothing")
    parser.set_defaults(run=export)
    add_debug(parser)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    return run_command(build_parser(), arguments)


if __name__ == "__main__":
    sys.exit(main())
