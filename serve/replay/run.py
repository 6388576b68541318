"""Replays a recording: opens what drove and what is compared, runs both, writes what was asked for, and prints it."""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Iterator, Sequence
from typing import Protocol

import msgspec
import pyarrow as pa

from carla_mlflow.artifact.artifact import Artifact
from carla_mlflow.cli import DONE, REFUSED, progress, warn
from carla_mlflow.errors import RefusedError
from carla_mlflow.inference.engine import Engine
from carla_mlflow.look import bar, show
from carla_mlflow.preprocessing.trust_types import operators_types
from serve.record.files import Recordings, open_recordings
from serve.replay.artifacts import Artifacts
from serve.replay.drove import Drove
from serve.replay.history import journal_of
from serve.replay.machine import engine_here, recorded_machines, recorded_references, why_not_bits
from serve.replay.result import Result
from serve.replay.session import Session
from serve.replay.text import as_text, span_of
from serve.replay.timeline import Timeline
from serve.replay.window import Window
from serve.score.command import find_artifact

BEFORE_NS = 120 * 10**9
"""How long before a moment a policy's memory is taken up, nanoseconds: its state is recorded once a minute."""


class Export(Protocol):
    """What a recording is exported to."""

    def add(self, batch: pa.RecordBatch) -> None: ...
    def close(self) -> str: ...
    def abandon(self) -> None: ...


def replay(options: argparse.Namespace) -> int:
    """Replays a recording, and prints what was found."""
    recordings = open_recordings(options.recording)
    _check_files(recordings)
    other = find_artifact(options.model, None) if options.model else None
    artifacts = Artifacts.usual(options.artifacts)
    exports = _exports(options, recordings)
    try:
        result = _replayed(options, recordings, artifacts, other, exports)
        result = msgspec.structs.replace(result, exports=tuple(export.close() for export in exports))
    except BaseException:
        for export in exports:
            export.abandon()
        raise
    if options.html is not None:
        from serve.replay.html import write_report

        write_report(options.html, result)
        result = msgspec.structs.replace(result, exports=(*result.exports, f"wrote {options.html}"))
    show(options.json, as_text(result), result.as_json() if options.json else None)
    if not result.rows and recordings.files:
        warn(f"no rows of that time or episode; the recording has {span_of(*_span(recordings))}")
    if not recordings.files:
        warn("no file is finished yet: one is a minute after its first row, or when its server ends")
    return DONE if result.holds else REFUSED


def _check_files(recordings: Recordings) -> None:
    """Raises RefusedError that names every file which is not as it was written."""
    count = len(recordings.files)
    progress(f"checking the hashes of {count} file{'' if count == 1 else 's'}")
    damages = recordings.verify()
    if damages:
        told = tuple(f"{damage.path}: {damage.problem}" for damage in damages)
        raise RefusedError(f"{recordings.folder}: the recording is damaged", told)


def _exports(options: argparse.Namespace, recordings: Recordings) -> list[Export]:
    found: list[Export] = []
    if options.lerobot is not None:
        from serve.replay.lerobot import LeRobotWriter

        found.append(LeRobotWriter(options.lerobot, recordings.cards))
    if options.mcap is not None:
        from serve.replay.mcap_file import McapWriter

        found.append(McapWriter(options.mcap, recordings.cards))
    return found


def _replayed(
    options: argparse.Namespace,
    recordings: Recordings,
    artifacts: Artifacts,
    other: Artifact | None,
    exports: Sequence[Export],
) -> Result:
    trusted = operators_types(options.trust_types)
    asked = []

    def load(digest: str) -> tuple[Engine, str]:
        artifact = artifacts.open(digest, recordings.cards[digest].name)
        machines = recorded_machines((file.origin for file in recordings.files if digest in file.cards), digest)
        backend = options.backend if options.backend != "recorded" else machines[0].get("backend", "card")
        engine = Engine(artifact, options.device, backend, trusted)
        return engine, why_not_bits(machines, engine_here(engine))

    def drove(name: str) -> Drove:
        theirs = {digest for digest, card in recordings.cards.items() if card.name == name}
        followed = recorded_references(file.origin for file in recordings.files if theirs & file.cards.keys())
        journal = journal_of(artifacts.store, name, followed) if artifacts.store else None
        asked.append(journal)
        return Drove(journal)

    window = _window(options)
    backend_of_other = "card" if options.backend == "recorded" else options.backend
    engine = None if other is None else Engine(other, options.device, backend_of_other, trusted)
    session = Session(recordings.cards, load, drove, engine, window, _timeline(recordings, window))
    for batch in _batches(recordings, window, options.episode, engine):
        counted = session.add(batch)
        for export in exports:
            export.add(counted)
    return session.result(str(options.recording), recordings.lost, any(journal is not None for journal in asked))


def _window(options: argparse.Namespace) -> Window:
    if options.at is not None:
        at: Window = options.at
        return at
    whole = Window()
    return Window(
        whole.start if options.start is None else options.start, whole.end if options.end is None else options.end
    )


def _timeline(recordings: Recordings, window: Window) -> Timeline | None:
    """Over what is replayed, as far as the files tell; None without any."""
    if not recordings.files:
        return None
    first, last = _span(recordings)
    return Timeline(max(first, window.start), min(last, window.end - 1))


def _span(recordings: Recordings) -> tuple[int, int]:
    """The times of the first and the last row of the files, of which there is one at least."""
    return min(file.info.first for file in recordings.files), max(file.info.last for file in recordings.files)


def _batches(
    recordings: Recordings, window: Window, episode: str | None, other: Engine | None
) -> Iterator[pa.RecordBatch]:
    """The rows of a window, and those before it that policies with memory need, with a bar where it takes long."""
    start, end = window.start, window.end
    remembers = any(card.memory is not None for card in recordings.cards.values())
    if other is not None and other.card.memory is not None:
        start = 0  # its memory is known from an episode's beginning on
    elif remembers:
        start = max(0, start - BEFORE_NS)
    is_all = start == 0 and episode is None and end == Window().end
    total = recordings.rows if is_all else None
    with contextlib.closing(bar("replaying", total, "row", unit_scale=True)) as shown:
        for batch in recordings.batches(start or None, None if end == Window().end else end, episode):
            yield batch
            shown.update(len(batch))
