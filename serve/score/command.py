"""python -m serve score: the actions of a policy on logged drives, row by row, as the server would have answered.

Reads a Parquet file part by part and writes another, so that files of any length fit in memory. A killed run continues
where it was when the command is called again.
"""

from __future__ import annotations

import argparse
import shlex
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from carla_mlflow.cli import DONE, progress, run_command
from carla_mlflow.command_parser import CommandParser, add_common
from carla_mlflow.contract.backend_names import CHOICES
from carla_mlflow.errors import RefusedError
from carla_mlflow.escaping import escaped
from carla_mlflow.look import bar, say_next, show

if TYPE_CHECKING:
    from carla_mlflow.artifact.artifact import Artifact

EXAMPLES = (
    "python -m serve score --model mine@production --input drives.parquet --output actions.parquet",
    "python -m serve score --model examples/v0.1.0 --input in.parquet --output out.parquet --keep drive,time",
)


def build_parser() -> CommandParser:
    parser = CommandParser("python -m serve score", EXAMPLES, description=__doc__.partition("\n\n")[2])
    _add_rows(parser.add_argument_group("rows"))
    _add_policy(parser.add_argument_group("the policy, and where it runs"))
    add_common(parser)
    parser.set_defaults(run=score)
    return parser


def _add_rows(group: Any) -> None:
    group.add_argument(
        "--input",
        type=Path,
        required=True,
        metavar="FILE",
        help="Parquet with a column for each observation field, and maybe others; for a policy with memory `state`, "
        "as an earlier answer gave it, without which (or with null) a row begins an episode",
    )
    group.add_argument(
        "--output",
        type=Path,
        required=True,
        metavar="FILE",
        help="Parquet: throttle, brake, steer, or what else the policy answers, in order",
    )
    group.add_argument(
        "--keep", default="", metavar="COLUMNS", help="columns of the input to copy beside the actions: drive,time"
    )
    group.add_argument(
        "--skip-invalid", action="store_true", help="rows that don't fit the policy get nulls and don't end the run"
    )


def _add_policy(group: Any) -> None:
    group.add_argument(
        "--model",
        required=True,
        metavar="FOLDER|REF",
        help="artifact folder, or a reference: carla-policy@production, folder/@^1.2",
    )
    group.add_argument("--digest", metavar="sha256:…", help="score only with the artifact of this digest (sha256:…)")
    group.add_argument("--device", default="auto", metavar="NAME", help="auto, cpu, cuda or cuda:N (default auto)")
    group.add_argument("--backend", default="card", choices=CHOICES, help="what runs the policy (default card)")
    group.add_argument(
        "--trust-types", metavar="A,B", help="types trusted in preprocessor.skops (or POLICY_TRUST_TYPES)"
    )
    group.add_argument(
        "--ray", metavar="ADDRESS", help="score on a Ray cluster (auto: this machine's); the output is then a folder"
    )


def score(options: argparse.Namespace) -> int:
    """Scores a file, and prints how long that took."""
    if not options.input.exists():
        raise RefusedError(f"{options.input}: there is no such file")
    if options.output.resolve() == options.input.resolve():
        raise RefusedError(f"{options.output}: is the input; write elsewhere")
    from carla_mlflow.contract.answer import answer_columns
    from carla_mlflow.contract.state_token import STATE

    progress(f"loading {options.model}")
    artifact = find_artifact(options.model, options.digest)
    kept = tuple(name.strip() for name in options.keep.split(",") if name.strip())
    answered = {name for column in answer_columns(artifact.card.action) for name in column.table_names}
    answered |= {STATE} if artifact.card.states else set()
    taken = [name for name in kept if name in answered]
    if taken:
        raise RefusedError(
            f"--keep {','.join(taken)}: the output has columns of these names; rename them in the input first"
        )
    began = time.perf_counter()
    if options.ray:
        from serve.score.on_ray import score_on_ray

        rows = score_on_ray(artifact, options, kept)
    else:
        rows = _score_here(artifact, options, kept)
    seconds = time.perf_counter() - began
    by = f"{artifact.card.name} {artifact.card.version} ({artifact.digest[:19]}…)"
    text = f"{options.output}: {rows:,} rows by {by} in {seconds:.1f} s, {rows / seconds:,.0f} rows/s"
    known = {"policy": artifact.card.name, "version": artifact.card.version, "digest": artifact.digest}
    show(options.json, escaped(text), {"output": str(options.output), "rows": rows, "seconds": seconds, **known})
    again = f"--output {shlex.quote(f'other-{options.output.name}')}"
    say_next(
        f"python -m serve score --model REF --input {shlex.quote(str(options.input))} {again}", only_to_people=True
    )
    return DONE


def _score_here(artifact: Artifact, options: argparse.Namespace, kept: tuple[str, ...]) -> int:
    from carla_mlflow.inference.engine import Engine
    from carla_mlflow.preprocessing.trust_types import operators_types
    from serve.score.run import Scorer, about, count_rows, score_file

    engine = Engine(artifact, options.device, options.backend, operators_types(options.trust_types))
    options.output.parent.mkdir(parents=True, exist_ok=True)
    with bar("scoring", count_rows(options.input), "row", unit_scale=True) as shown:

        def report(rows: int, known: bool) -> None:
            shown.set_postfix_str("of an earlier run" if known else "")
            shown.update(rows)

        run = about(engine, options.input, kept, options.skip_invalid)
        return score_file(Scorer(engine, kept, options.skip_invalid), run, options.output, report)


def find_artifact(model: str, digest: str | None) -> Artifact:
    """Opens the artifact in a folder, or fetches what a reference resolves to now."""
    from carla_mlflow.artifact.artifact import open_artifact
    from carla_mlflow.artifact.naming import is_artifact_folder

    if is_artifact_folder(model):
        return open_artifact(Path(model), digest)
    from registry.store.cache import default_cache
    from registry.store.opening import open_source

    artifact = open_source(model, default_cache())
    if digest not in (None, artifact.digest):
        raise RefusedError(f"{model}: is {artifact.digest}, not {digest}")
    return artifact


def main(arguments: Sequence[str] | None = None) -> int:
    return run_command(build_parser(), arguments, extra="score")


if __name__ == "__main__":
    sys.exit(main())
