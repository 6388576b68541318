"""Scoring on a Ray cluster: Ray Data reads, hands blocks of rows to as many actors as there are cores, and writes."""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import ray
from ray.data import DataContext

from carla_mlflow.artifact import Artifact, open_artifact
from carla_mlflow.engine import Engine
from carla_mlflow.errors import RefusedError
from serve.score.run import PIECE_ROWS, Scorer


class RayScorer:
    """One actor: a policy, loaded and verified where it runs."""

    def __init__(
        self, files: dict[str, bytes], digest: str, options: dict[str, str], kept: tuple[str, ...], skip_invalid: bool
    ) -> None:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "policy"
            path.mkdir()
            for name, data in files.items():
                (path / name).write_bytes(data)
            engine = Engine(open_artifact(path, digest), options["device"], options["backend"])
        self._scorer = Scorer(engine, kept, skip_invalid)

    def __call__(self, table: pa.Table) -> pa.Table:
        """The actions of some rows."""
        return pa.Table.from_batches([self._scorer.score(batch) for batch in table.combine_chunks().to_batches()])


def score_on_ray(artifact: Artifact, options: argparse.Namespace, kept: tuple[str, ...]) -> int:
    """Scores a file or a folder of them into a folder, rows in their order; returns how many.

    Raises:
        RefusedError: the output is there.
    """
    if options.output.exists():
        raise RefusedError(f"{options.output}: already exists; remove it or write elsewhere")
    ray.init(options.ray, ignore_reinit_error=True, log_to_driver=False)
    DataContext.get_current().execution_options.preserve_order = True
    cores = max(1, int(ray.cluster_resources().get("CPU", 1)) - 1)  # one is left to those who read
    given: dict[str, Any] = {"device": options.device, "backend": options.backend}
    columns = [*dict.fromkeys((*kept, *artifact.card.observation_spec.names))]
    data = ray.data.read_parquet(str(options.input.resolve()), columns=columns)
    scored = data.map_batches(
        RayScorer,
        batch_size=PIECE_ROWS,
        batch_format="pyarrow",
        concurrency=cores,
        fn_constructor_args=(dict(artifact.files), artifact.digest, given, kept, options.skip_invalid),
    )
    scored.write_parquet(str(options.output.resolve()))
    return int(ray.data.read_parquet(str(options.output.resolve())).count())
