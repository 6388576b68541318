"""What the tests of a server's shadow share: what the server tells of it, and its process."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import psutil
from following_support import until
from tests_support import Server

from carla_mlflow import Artifact, Engine, open_artifact
from carla_mlflow.contract.control_kinds import CONTROL_NAMES
from serve.record.files import open_recordings
from serve.record.start import rings_folder
from serve.replay.drove import Drove
from serve.replay.session import Session
from serve.shadow.shadow_process import RUN_FOLDER


def shadow_of(server: Server) -> dict[str, Any]:
    """What the server tells of its shadow."""
    found: dict[str, Any] = server.get("/metadata").json["shadow"]
    return found


def wait_up(server: Server, version: str = "") -> None:
    """Waits until the shadow compares, as that version if one is named."""

    def is_up() -> bool:
        shadow = shadow_of(server)
        return bool(shadow["up"]) and version in ("", shadow["version"])

    until(is_up, server)


def wait_rows(server: Server, rows: int) -> None:
    """Waits until the shadow has compared so many rows."""
    until(lambda: shadow_of(server)["counts"]["rows"] >= rows, server)
    assert shadow_of(server)["counts"]["rows"] == rows


def process_of(server: Server) -> psutil.Process:
    """The shadow's process."""
    children = psutil.Process(server.process.pid).children()
    return next(child for child in children if "serve.shadow.start" in child.cmdline())


def rings_of(server: Server) -> Path:
    """The folder of the server's rings."""
    return rings_folder(Path(process_of(server).environ()[RUN_FOLDER]))


class Asking:
    """Asks a server with one observation after the other, and knows what the policy it serves answers to each."""

    def __init__(self, server: Server, engine: Engine) -> None:
        self.server, self._engine, self._rng = server, engine, np.random.default_rng(3)

    def observed(self) -> dict[str, Any]:
        """One observation, as a request has it."""
        return {spec.name: spec.sample(self._rng, 1)[0].tolist() for spec in self._engine.specs}

    def ask(self, requests: int, rows: int = 1, **first: float) -> None:
        """Sends requests, each of which has to be answered with the right bits; `first` sets an observation's field."""
        for _ in range(requests):
            observations = {spec.name: spec.sample(self._rng, rows) for spec in self._engine.specs}
            for name, value in first.items():
                observations[name][:, 0] = value
            body = {"observations": [{n: v[row].tolist() for n, v in observations.items()} for row in range(rows)]}
            answer = self.server.post("/predict", body)
            assert answer.status == 200, answer.body
            given = np.array([[a[name] for name in CONTROL_NAMES] for a in answer.json["actions"]], np.float32)
            assert given.tobytes() == self._engine.act(observations).control.tobytes()


def replayed(recordings: Path, drove: Artifact, other: Path) -> dict[str, Any]:
    """What a replay of recordings finds of another version, as JSON has it."""
    found = open_recordings(recordings)
    engine = Engine(drove, "cpu")
    session = Session(found.cards, lambda _: (engine, ""), lambda _: Drove(None), Engine(open_artifact(other), "cpu"))
    for batch in found.batches():
        session.add(batch)
    figures: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(session.result("", 0, False).compared))
    return figures
