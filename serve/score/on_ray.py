"""Scores on a Ray cluster: Ray Data passes parts of the input to as many actors as there are cores.

Each part's output file is named by its position, since Ray Data does not keep the order under load, whatever its
options.
"""

from __future__ import annotations

import argparse
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow.parquet as pq
import ray

from carla_mlflow.artifact.artifact import Artifact, open_artifact
from carla_mlflow.contract.state_token import name_of_key
from carla_mlflow.errors import EpisodeError, RefusedError, SpecError
from carla_mlflow.flavor.environment import other_key, state_key
from carla_mlflow.inference.engine import Engine
from carla_mlflow.preprocessing.trust_types import operators_types
from serve.score.columns import columns_read
from serve.score.files import opened, result_schema, row_groups
from serve.score.run import PART_ROWS, PIECE_ROWS, Scorer

PARTS_A_CORE = 8
"""Parts per core: so many that no core waits long for the last one."""


class Part(NamedTuple):
    """Consecutive row groups of one file.

    Attributes:
        place: position among all parts.
        first: index of its first row in the file.
    """

    place: int
    source: str
    groups: list[int]
    first: int


class RayScorer:
    """A Ray actor: a policy, loaded and verified on the machine where it runs."""

    def __init__(
        self, files: dict[str, bytes], digest: str, options: dict[str, Any], kept: tuple[str, ...], skip_invalid: bool
    ) -> None:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "policy"
            path.mkdir()
            for name, data in files.items():
                (path / name).write_bytes(data)
            self._artifact = open_artifact(path, digest)
        engine = Engine(self._artifact, options["device"], options["backend"], options["trusted"])
        self._scorer = Scorer(engine, kept, skip_invalid)
        self._output, self._kept = Path(options["output"]), kept
        self._other_key = other_key(state_key(), options["key"]) if self._artifact.card.states else None

    def __call__(self, batch: dict[str, list[Any]]) -> dict[str, list[Any]]:
        """Scores parts; returns the number of rows of each, or what is wrong with one of its rows."""
        found: dict[str, list[Any]] = {"rows": [], "where": [], "problem": []}
        for values in zip(*(batch[name] for name in Part._fields), strict=True):
            part = Part(int(values[0]), str(values[1]), [int(group) for group in values[2]], int(values[3]))
            try:
                result = (0, "POLICY_STATE_KEY", self._other_key) if self._other_key else (self._score(part), "", "")
            except (SpecError, EpisodeError) as error:
                result = 0, f"{part.source}: {error.field}", error.problem
            for name, value in zip(found, result, strict=True):
                found[name].append(value)
        return found

    def _score(self, part: Part) -> int:
        """Writes a part whole or not at all, even if Ray runs it on two actors; returns its number of rows."""
        path = self._output / f"{part.place:08}.parquet"
        beside = path.with_name(f".{path.name}.{os.getpid()}")
        rows = 0
        with opened(Path(part.source), self._scorer.columns) as file:
            columns = self._scorer.columns_of(file)
            card = self._artifact.card
            schema = result_schema(
                file, self._kept, self._scorer.answered, self._scorer.texts, card.version, self._artifact.digest
            )
            with pq.ParquetWriter(beside, schema) as writer:
                for batch in file.iter_batches(PIECE_ROWS, row_groups=part.groups, columns=columns):
                    writer.write_batch(self._scorer.score(batch, part.first + rows).cast(schema))
                    rows += len(batch)
        os.replace(beside, path)
        return rows


def score_on_ray(artifact: Artifact, options: argparse.Namespace, kept: tuple[str, ...]) -> int:
    """Scores a file or a folder of files into a folder, keeping the order of the rows; returns their number.

    Raises:
        RefusedError: the output exists, the input holds no Parquet file, or a file lacks a column.
        SpecError: a row does not fit; names it.
    """
    if options.output.exists():
        raise RefusedError(f"{options.output}: already exists; remove it or write elsewhere")
    sources = sorted(options.input.rglob("*.parquet")) if options.input.is_dir() else [options.input]
    if not sources:
        raise RefusedError(f"{options.input}: holds no file that ends in .parquet")
    columns = columns_read(kept, artifact.card.observation_spec)
    rows_there = sum(_rows(source, columns) for source in sources)
    partial = options.output.resolve().with_name(f".{options.output.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        ray.init(options.ray, ignore_reinit_error=True, log_to_driver=False)
        cores = max(1, int(ray.cluster_resources().get("CPU", 1)))
        parts = list(_parts(sources, max(PIECE_ROWS, min(PART_ROWS, rows_there // (PARTS_A_CORE * cores)))))
        given = {"device": options.device, "backend": options.backend, "output": str(partial)}
        given["key"] = name_of_key(state_key()) if artifact.card.states else ""
        given["trusted"] = operators_types(options.trust_types)
        rows = _run(parts, cores, (dict(artifact.files), artifact.digest, given, kept, options.skip_invalid))
        os.replace(partial, options.output)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return rows


def _run(parts: list[Part], cores: int, policy: tuple[Any, ...]) -> int:
    items = [part._asdict() for part in parts]
    scored = ray.data.from_items(items, override_num_blocks=min(len(parts), PARTS_A_CORE * cores)).map_batches(
        RayScorer, batch_size=1, concurrency=min(cores, len(parts)), fn_constructor_args=policy
    )
    rows = 0
    for found in scored.iter_rows():
        if found["problem"]:
            raise SpecError(found["where"], found["problem"])
        rows += int(found["rows"])
    return rows


def _rows(source: Path, columns: list[str]) -> int:
    with opened(source, columns) as file:
        return int(file.metadata.num_rows)


def _parts(sources: list[Path], rows: int) -> Iterator[Part]:
    place = 0
    for source in sources:
        with opened(source, ()) as file:
            for groups, first in row_groups(file, rows):
                yield Part(place, str(source.resolve()), groups, first)
                place += 1
