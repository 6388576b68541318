"""A worker's recorder and the writer in one process, without a server: for tests of what comes back from the files."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa

from carla_mlflow import Artifact, write_artifact
from serve.answering.endpoint import PREDICT, EncodedRequest
from serve.answering.prediction import Prediction, forward
from serve.policy.loading import Failure, load
from serve.policy.serving import Serving
from serve.policy.slot import Slot
from serve.record.files import Recordings, open_recordings
from serve.record.hook import Refused
from serve.record.recorder import Recorder
from serve.record.writer import Writer
from serve.settings import Settings

NOON = 1_772_366_400.0
"""A full hour, seconds since 1970."""


def served(folder: Path, policy: Path | Artifact) -> Serving:
    """A policy as a worker has it, loaded from a folder or written there first."""
    path = policy if isinstance(policy, Path) else write_artifact(folder / "policy", policy).path
    found = load(path, None, Settings(model=str(path)), folder)
    assert not isinstance(found, Failure), found.reason
    return found


@dataclass
class Recording:
    """One worker that records, and the writer that it records for.

    Attributes:
        asked: predictions that were answered, in order.
    """

    folder: Path
    serving: Serving
    settings: dict[str, Any] = field(default_factory=dict)
    ring_bytes: int = 1 << 20
    share: float = 1.0
    now: float = NOON
    asked: list[Prediction] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.rings, self.records = self.folder / "rings", self.folder / "records"
        self.rings.mkdir()
        keeps = self.settings.get("record_images", "none") != "none"
        self.recorder = Recorder(self.rings, self.share, "keep" if keeps else "none", self.ring_bytes)
        self.slot = Slot(self.folder)
        self.writer = self.new_writer()

    def new_writer(self) -> Writer:
        """A writer, as one that is started anew."""
        return Writer(Settings(model="x", record=str(self.records), **self.settings), self.rings)

    def predict(
        self, requests: Sequence[list[dict[str, Any]]], episodes: Sequence[str | None] = (), **options: Any
    ) -> list[Prediction]:
        """Answers requests, each of some rows, by one forward, and records them."""
        predictions = []
        for place, rows in enumerate(requests):
            body = msgspec.json.encode({"observations": rows, **options}, enc_hook=lambda value: value.tolist())
            episode = episodes[place] if episodes else None
            encoded = EncodedRequest(body, "application/json", episode_id=episode)
            predictions.append(Prediction(PREDICT, self.serving, self.slot, encoded, time.perf_counter(), None))
            predictions[-1].decode()
        for prediction, answered in zip(predictions, forward(predictions), strict=True):
            assert not isinstance(answered, Exception), answered
            prediction.encode(answered)
            self.recorder.answered(prediction, f"request-{len(self.asked)}")
            self.asked.append(prediction)
        return predictions

    def refuse(self, status: int, prediction: Prediction | None = None, episode: str | None = None) -> None:
        """Records a request that got an error."""
        began = time.perf_counter()
        self.recorder.refused(Refused(self.serving, prediction, "refused", episode, began, began, status))

    def write(self, minutes: float = 0.0) -> None:
        """Lets the writer see what is there, some minutes later."""
        self.recorder.flush()
        self.now += 60 * minutes
        self.writer.step(self.now)
        self.writer.merge(self.now)

    def end(self) -> Recordings:
        """Ends the worker, then the writer."""
        self.recorder.close()
        self.writer.step(self.now)
        self.writer.merge(self.now)
        self.writer.stop()
        return self.read()

    def read(self) -> Recordings:
        return open_recordings(self.records)


def table_of(recordings: Recordings, **wanted: Any) -> pa.Table:
    """All rows of recordings of one contract."""
    return pa.Table.from_batches(list(recordings.batches(**wanted)))


def numbers(table: pa.Table, column: str) -> np.ndarray:
    """A column of numbers or of lists of numbers as an array, without nulls."""
    array = table.column(column).combine_chunks()
    if pa.types.is_fixed_size_list(array.type):
        return array.flatten().to_numpy().reshape(-1, array.type.list_size)
    return array.to_numpy(zero_copy_only=False)


def same_bits(one: np.ndarray, other: np.ndarray) -> bool:
    """Whether two arrays have the same bytes."""
    return np.ascontiguousarray(one).tobytes() == np.ascontiguousarray(other).tobytes()
