"""Recordings as a server writes them, of drives that are made up: what each policy really answers to them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from carla_mlflow import Engine
from carla_mlflow.contract.answer import fallback_row
from carla_mlflow.contract.card import Card, dump_card
from serve.record.file_columns import as_written, with_images
from serve.record.file_info import FileInfo, file_hash, to_metadata
from serve.record.head_file import Head, write_head
from serve.record.schema import OBSERVATION, STATE, Images, is_image, recording_schema

BEGAN = 1_764_338_520 * 10**9
"""2025-11-28T14:02:00Z, nanoseconds since 1970."""
TICK = 50_000_000
Column = dict[str, list[Any]]


def driven(
    engine: Engine,
    episodes: Sequence[str | None] = ("a", "b"),
    steps: int = 20,
    seed: int = 0,
    sampled: bool = False,
    began: int = BEGAN,
    late: Sequence[int] = (),
) -> pa.Table:
    """Episodes side by side, a row of each a tick, each with its own observations.

    Args:
        engine: the policy that drives.
        episodes: ids; None for rows of no episode.
        steps: ticks.
        seed: of the observations.
        sampled: whether actions are sampled, each row with a seed of its own.
        began: time of the first row, nanoseconds since 1970.
        late: ticks at which the first episode gets the fallback.
    """
    rng, card = np.random.default_rng(seed), engine.card
    carried: dict[int, dict[str, np.ndarray]] = {}
    frames = [0] * len(episodes)
    rows: list[dict[str, Any]] = []
    for step in range(steps):
        for place, episode in enumerate(episodes):
            row = _asked(episode, f"r{step}-{place}", began + step * TICK + place, engine, len(rows))
            observed = {spec.name: spec.sample(rng, 1) for spec in card.observation_spec}
            row |= {OBSERVATION + name: _plain(values[0]) for name, values in observed.items()}
            if place == 0 and step in late:
                rows.append(row | {"outcome": "fallback", "status": 504, "action": fallback_row(card.action).tolist()})
                continue
            given = {} if card.memory is None else {"state": carried.get(place)}
            asked = len(rows) if sampled else None
            acted = engine.act(observed, not sampled, asked, **given)
            row |= {"action": acted.control[0].tolist(), "action.raw": acted.raw[0].tolist(), "seed": asked}
            row |= {"deterministic": not sampled, "frame_index": None if episode is None else frames[place]}
            if card.memory is not None:
                row |= _memory(place, frames[place], episode, carried, engine)
                carried[place] = acted.state
            frames[place] += 1
            rows.append(row)
    return table_of(card, rows)


def table_of(card: Card, rows: list[dict[str, Any]]) -> pa.Table:
    """Rows as a recording's columns, with all images."""
    return pa.Table.from_pylist(rows, recording_schema(card, "keep"))


def write(
    folder: Path,
    parts: Sequence[tuple[Engine, pa.Table]],
    images: Images = "keep",
    node: str = "car",
    more: dict[str, Any] | None = None,
) -> Path:
    """Writes one file a part, with their chain of hashes; `more` says where rows come from."""
    previous, files = "", dict[int, tuple[str, str]]()
    for number, (engine, table) in enumerate(parts, 1):
        times = table["timestamp"].cast(pa.int64()).to_numpy()
        info = FileInfo(number, previous, engine.card.contract, images, int(times.min()), int(times.max()))
        [batch] = table.combine_chunks().to_batches()
        stored = as_written(pa.Table.from_batches([with_images(batch, images)]))
        origin = {key: value if isinstance(value, str) else json.dumps(value) for key, value in (more or {}).items()}
        metadata = to_metadata(info, {engine.digest: dump_card(engine.card)}, origin)
        path = folder / node / "2025-11-28" / f"1402-{number}.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(stored.replace_schema_metadata(metadata), path, row_group_size=max(1, len(table) // 3))
        previous = file_hash(path)
        files[number] = (str(path.relative_to(folder / node)), previous)
    write_head(folder / node, Head(len(parts), previous, files, sum(len(table) for _, table in parts)))
    return folder


def batches(*tables: pa.Table) -> Iterator[pa.RecordBatch]:
    """The rows as readers get them."""
    for table in tables:
        yield from table.combine_chunks().to_batches()


def without_images(table: pa.Table, card: Card) -> pa.Table:
    """The columns of a recording that keeps no images."""
    return table.drop_columns([OBSERVATION + spec.name for spec in card.observation_spec if is_image(spec)])


def _asked(episode: str | None, request: str, when: int, engine: Engine, sequence: int) -> dict[str, Any]:
    return {
        "timestamp": when,
        "request_id": request,
        "row": 0,
        "episode_id": episode,
        "episode_index": None,
        "version": engine.card.version,
        "digest": engine.digest,
        "outcome": "policy",
        "status": 200,
        "queue_ms": 0.1,
        "decode_ms": 0.05,
        "inference_ms": 0.2,
        "total_ms": 0.4,
        "worker": 7,
        "sequence": sequence,
    }


def _memory(
    place: int, frame: int, episode: str | None, carried: dict[int, dict[str, np.ndarray]], engine: Engine
) -> dict[str, Any]:
    """The state that came in, where it is recorded: not at the beginning, and then once a minute."""
    is_given = frame > 0 and (episode is None or frame % 10 == 0)
    state = {name: values[0].reshape(-1).tolist() for name, values in carried[place].items()} if is_given else {}
    return {"reset": frame == 0} | {STATE + name: state.get(name) for name in engine.card.states}


def _plain(value: Any) -> Any:
    array = np.asarray(value)
    return array.reshape(-1).tolist() if array.ndim else array.item()
