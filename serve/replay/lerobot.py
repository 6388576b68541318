"""Writes a recording as a LeRobot dataset, format v3.0.

    meta/info.json                                features, frames a second, numbers of episodes and frames
    meta/stats.json                               of each feature
    meta/tasks.parquet                            task → number; a task is the version that drove
    meta/episodes/chunk-000/file-000.parquet      of each episode: its length, where its frames are, its statistics
    data/chunk-000/file-000.parquet               frames, one episode after the other

The format is that of lerobot 0.4 (`lerobot/datasets/utils.py` and `lerobot_dataset.py` in the project
huggingface/lerobot). Frames are numbered from 0 in each episode and lie 1 / fps apart, as its readers require; the
wall clock is the feature `time_ns`. An episode of which steps were lost becomes several.
"""

from __future__ import annotations

import json
import os
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from carla_mlflow.contract.card import Card
from carla_mlflow.errors import RefusedError
from serve.replay.lerobot_features import RECORDED_AT, Feature, features_of, own_features
from serve.replay.lerobot_stats import FeatureStats
from serve.replay.rows import plain, timestamps
from serve.replay.whole_episodes import WholeEpisodes

FORMAT = "v3.0"
CHUNK_FILES, FILE_MB = 1000, 100
"""Most files in a chunk and most megabytes in a file: lerobot's own defaults."""
PLACE = "chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
ANOTHER_CONTRACT = "of another contract than the first rows"
NO_OBSERVATION = "without an observation"


class LeRobotWriter:
    """Writes a dataset beside its folder, and renames it into place at the end.

    Attributes:
        frames: how many were written.
        left_out: reason → rows that were not written.
    """

    def __init__(self, folder: Path, cards: dict[str, Card]) -> None:
        """Begins a dataset.

        Args:
            folder: must not exist.
            cards: digest → card.

        Raises:
            RefusedError: the folder exists.
        """
        if folder.exists():
            raise RefusedError(f"{folder}: already exists; remove it or write elsewhere")
        self._folder, self._cards = folder, cards
        self._beside = folder.with_name(f".{folder.name}.{os.getpid()}.partial")
        self._collected, self.left_out = WholeEpisodes(), Counter[str]()
        self._card: Card | None = None
        self._features: list[Feature] = []
        self._stats: dict[str, FeatureStats] = {}
        self._tasks: dict[str, int] = {}
        self._episodes: list[dict[str, Any]] = []
        self._writer: pq.ParquetWriter | None = None
        self._file, self._file_bytes, self.frames = 0, 0, 0

    def add(self, batch: pa.RecordBatch) -> None:
        """Takes a batch; writes the episodes that have ended."""
        for episode in self._collected.add(batch):
            self._write(episode)

    def close(self) -> str:
        """Writes what is left, and puts the dataset in its place; returns what was written, in words.

        Raises:
            RefusedError: there is no episode, so that there is no dataset.
        """
        for episode in self._collected.rest():
            self._write(episode)
        self.left_out += self._collected.left_out
        told = "".join(f"; {rows:,} rows left out: {reason}" for reason, rows in self.left_out.items() if rows)
        if self._writer is None or self._card is None:
            self.abandon()
            text = f"{self._folder}: there is no episode to write{told}"
            raise RefusedError(f"{text}; clients name episodes by the header X-Episode-Id")
        self._writer.close()
        self._write_meta(self._card)
        os.replace(self._beside, self._folder)
        return f"{self._folder}: {len(self._episodes):,} episodes of {self.frames:,} frames{told}"

    def abandon(self) -> None:
        """Removes what was written."""
        if self._writer is not None:
            self._writer.close()
        shutil.rmtree(self._beside, ignore_errors=True)

    def _write(self, episode: pa.Table) -> None:
        digest = plain(episode.column("digest").combine_chunks())[0].as_py()
        card = self._cards[digest]
        if self._card is None:
            self._card, self._features = card, features_of(card, episode.schema.names)
        elif features_of(card, episode.schema.names) != self._features:
            self.left_out[ANOTHER_CONTRACT] += len(episode)
            return
        observed = np.ones(len(episode), np.bool_)
        for feature in self._features:
            observed &= episode.column(feature.column).is_valid().to_numpy()
        self.left_out[NO_OBSERVATION] += int((~observed).sum())
        [batch, *_] = episode.filter(pa.array(observed)).combine_chunks().to_batches() or [None]
        if batch is not None:
            self._write_frames(batch, card)

    def _write_frames(self, batch: pa.RecordBatch, card: Card) -> None:
        number, task = len(self._episodes), f"{card.name} {card.version}"
        count, task_index = len(batch), self._tasks.setdefault(task, len(self._tasks))
        columns: dict[str, pa.Array] = {}
        stats: dict[str, FeatureStats] = {}
        for feature in self._features:
            values = feature.values(batch)
            columns[feature.key] = feature.to_arrow(values)
            stats[feature.key] = FeatureStats(feature.is_image)
            stats[feature.key].add(values)
        frames = np.arange(count, dtype=np.int64)
        own: dict[str, NDArray[Any]] = {
            "timestamp": (frames / card.action.rate_hz).astype(np.float32),
            "frame_index": frames,
            "episode_index": np.full(count, number),
            "index": self.frames + frames,
            "task_index": np.full(count, task_index),
            RECORDED_AT: timestamps(batch),
        }
        for name, values in own.items():
            columns[name] = pa.array(values)
            stats[name] = FeatureStats()
            stats[name].add(values)
        self._append(pa.table(columns))
        self._note(number, task, count, stats)

    def _append(self, table: pa.Table) -> None:
        if self._writer is not None and self._file_bytes > FILE_MB << 20:
            self._writer.close()
            self._writer, self._file, self._file_bytes = None, self._file + 1, 0
        if self._writer is None:
            path = self._beside / "data" / self._place(self._file)
            path.parent.mkdir(parents=True, exist_ok=True)
            self._writer = pq.ParquetWriter(path, table.schema)
        self._writer.write_table(table)
        self._file_bytes += table.nbytes

    @staticmethod
    def _place(file: int) -> str:
        return PLACE.format(chunk_index=file // CHUNK_FILES, file_index=file % CHUNK_FILES)

    def _note(self, number: int, task: str, count: int, stats: dict[str, FeatureStats]) -> None:
        episode: dict[str, Any] = {
            "episode_index": number,
            "tasks": [task],
            "length": count,
            "data/chunk_index": self._file // CHUNK_FILES,
            "data/file_index": self._file % CHUNK_FILES,
            "dataset_from_index": self.frames,
            "dataset_to_index": self.frames + count,
            "meta/episodes/chunk_index": 0,
            "meta/episodes/file_index": 0,
        }
        for key, found in stats.items():
            episode |= {f"stats/{key}/{name}": value for name, value in found.found().items()}
            if key in self._stats:
                self._stats[key].merge(found)
            else:
                self._stats[key] = found
        self._episodes.append(episode)
        self.frames += count

    def _write_meta(self, card: Card) -> None:
        meta = self._beside / "meta"
        episodes = meta / "episodes" / self._place(0)
        episodes.parent.mkdir(parents=True)
        pq.write_table(pa.Table.from_pylist(self._episodes), episodes)
        tasks = pd.DataFrame({"task_index": list(self._tasks.values())}, index=list(self._tasks))
        tasks.to_parquet(meta / "tasks.parquet")
        stats = {key: found.found() for key, found in self._stats.items()}
        (meta / "stats.json").write_text(json.dumps(stats, indent=2))
        (meta / "info.json").write_text(json.dumps(self._info(card), indent=2))

    def _info(self, card: Card) -> dict[str, Any]:
        rate = card.action.rate_hz
        return {
            "codebase_version": FORMAT,
            "robot_type": card.name,
            "total_episodes": len(self._episodes),
            "total_frames": self.frames,
            "total_tasks": len(self._tasks),
            "chunks_size": CHUNK_FILES,
            "data_files_size_in_mb": FILE_MB,
            "video_files_size_in_mb": 2 * FILE_MB,
            "fps": int(rate) if rate == int(rate) else rate,
            "splits": {"train": f"0:{len(self._episodes)}"},
            "data_path": f"data/{PLACE}",
            "video_path": None,
            "features": {feature.key: feature.describe() for feature in self._features} | own_features(),
        }
