"""Servers of other projects, from a folder whose run.py knows how to start, query and check each of them.

That run.py holds a table `S` of systems, `body(name, rows, index)` and a class `Server(name, kind)` with ready(),
check() and stop(). It is imported unchanged, so that the peers are started by their own commands.
"""

from __future__ import annotations

import contextlib
import importlib.util
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

from benchmarks.speed.systems import Running, System
from benchmarks.support.requests import http_request

KINDS = {"mlp": "w1", "image": "w2"}

# The best settings of each; mosec has two, as neither is best in all columns.
DEFAULT = {
    "mlp": (
        "mosec-2w",
        "mosec-1w-batch32",
        "torchserve-1w-batch32",
        "pytriton-1w",
        "mlserver-0pw",
        "mlflow-1w",
        "mlflow-2w",
    ),
    "image": ("mosec-2w", "mosec-1w-batch32", "torchserve-1w-batch32", "pytriton-1w", "mlflow-b64-1w", "mlflow-b64-2w"),
}


class Peer(System):
    """One system of the table in the folder's run.py."""

    def __init__(self, harness: ModuleType, name: str, kind: str) -> None:
        self.name, self.kind, self._harness = name, kind, harness
        self._server = None

    def encode(self, rows: int) -> list[bytes]:
        protocol, path, media_type = self._harness.S[self.name][KINDS[self.kind]]
        count = len(Path(f"{self._harness.B}/{protocol}_{rows}.idx").read_text().splitlines())
        requests = []
        for body, header in (self._harness.body(protocol, rows, index) for index in range(count)):
            extra = {"Inference-Header-Content-Length": str(header)} if header else {}
            requests.append(http_request(path, body, media_type, **extra))
        return requests

    @contextlib.contextmanager
    def running(self) -> Iterator[Running]:
        self._server = server = self._harness.Server(self.name, KINDS[self.kind])
        try:
            seconds, *what = server.ready()
            if seconds is None:
                raise RuntimeError(f"{self.name}: gave no answer: {str(what[0])[:200]}")
            yield Running(server.port, server.p.pid, seconds)
        finally:
            server.stop()

    def problem(self, running: Running) -> str | None:
        found = {rows: text for rows, text in self._server.check().items() if not str(rows).startswith("t")}
        return None if set(found.values()) <= {"ok", "ok(shape)", "n/a"} else str(found)


def peers(folder: Path, kind: str, names: list[str]) -> list[Peer]:
    """The peers to measure: those named, or by default the best of each project.

    Raises:
        RuntimeError: the folder has no usable run.py, or its table lacks a name.
    """
    harness = _harness(folder)
    known = [name for name, entry in harness.S.items() if entry[KINDS[kind]]]
    unknown = [name for name in names if name not in harness.S]
    if unknown:
        raise RuntimeError(f"{folder}/run.py knows no {', '.join(unknown)}")
    wanted = [name for name in names if name in known] if names else [n for n in DEFAULT[kind] if n in known]
    return [Peer(harness, name, kind) for name in wanted]


def _harness(folder: Path) -> ModuleType:
    path = folder / "run.py"
    if not path.is_file() or re.search(r'^H = "@H@"', path.read_text(), re.MULTILINE):
        raise RuntimeError(f"{folder}: expected a folder laid out with run.py and its peers in it")
    if "peers_harness" not in sys.modules:
        spec = importlib.util.spec_from_file_location("peers_harness", path)
        if spec is None or spec.loader is None:
            raise RuntimeError(f"{path}: can't be imported")
        sys.modules["peers_harness"] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules["peers_harness"])
    return sys.modules["peers_harness"]
