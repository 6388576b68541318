"""Whether the same bits are owed here: the recording's machine and engine against this one."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import platform
from collections.abc import Iterable, Mapping
from pathlib import Path

import pyarrow.parquet as pq

from carla_mlflow.inference.engine import Engine

MACHINE, ENGINE, REFERENCE = "machine", "engine:", "reference"
"""Metadata keys of a recording's files: the machine, and ENGINE and a digest for what ran that policy, JSON objects;
and the reference that the server followed, empty for a folder."""
NAMES = {
    "architecture": "architecture",
    "processor": "processor",
    "flags": "instruction set",
    "numpy": "numpy",
    "torch": "torch",
    "onnxruntime": "onnxruntime",
    "backend": "backend",
    "device": "device",
}
"""What a policy's bits depend on besides its files → what it is called."""
OF_BACKEND = {"torch": "torchscript", "onnxruntime": "onnx"}
"""Libraries that one backend alone runs with."""

Machine = Mapping[str, str]


def this_machine() -> dict[str, str]:
    """What a policy's bits depend on here, by the keys of NAMES; empty texts for what is not installed or not known."""
    info = _cpuinfo()
    flags = " ".join(sorted(info.get("flags", info.get("features", "")).split()))
    return {
        "architecture": platform.machine(),
        "processor": info.get("model name", platform.processor()),
        "flags": hashlib.sha256(flags.encode()).hexdigest()[:16] if flags else "",
        **{name: _version(name) for name in ("numpy", "torch", "onnxruntime")},
    }


def engine_here(engine: Engine) -> dict[str, str]:
    """This machine and what runs the policy on it."""
    return this_machine() | {"backend": engine.backend, "device": engine.device.name}


def recorded_machines(files: Iterable[Path], digest: str) -> list[dict[str, str]]:
    """The machines and engines that answered by one policy, by what the files of a recording say; each once."""
    found: dict[tuple[tuple[str, str], ...], dict[str, str]] = {}
    for path in files:
        metadata = pq.read_metadata(path).metadata or {}
        machine = _noted(metadata, MACHINE) | _noted(metadata, ENGINE + digest)
        found.setdefault(tuple(sorted(machine.items())), machine)
    return list(found.values())


def recorded_reference(files: Iterable[Path]) -> str | None:
    """The reference that the server followed, empty for a folder; None where it is not known, or there are several."""
    found = {(pq.read_metadata(path).metadata or {}).get(REFERENCE.encode()) for path in files}
    [only] = found if len(found) == 1 else [None]
    return None if only is None else only.decode(errors="replace")


def why_not_bits(recorded: Iterable[Machine], here: Machine) -> str:
    """Why the recorded bits need not be the same here, in words; empty where they have to be.

    What is not known counts as the same: a difference is then told rather than excused.
    """
    other: dict[str, None] = {}
    for machine in recorded:
        for key, name in NAMES.items():
            was, now = machine.get(key, ""), here.get(key, "")
            if not was or not now or was == now or OF_BACKEND.get(key, here.get("backend")) != here.get("backend"):
                continue
            other[f"another {name}" if key == "flags" else f"{name} {now} instead of {was}"] = None
    return "; ".join(other)


def _noted(metadata: Mapping[bytes, bytes], key: str) -> dict[str, str]:
    """A JSON object in a file's metadata; empty where it is not there or can't be read."""
    try:
        found = json.loads(metadata.get(key.encode(), b"{}"))
    except ValueError:
        return {}
    return {str(name): str(value) for name, value in found.items()} if isinstance(found, dict) else {}


def _cpuinfo() -> dict[str, str]:
    """What Linux says of the first processor, names in lower case; empty elsewhere."""
    try:
        first = Path("/proc/cpuinfo").read_text().partition("\n\n")[0]
    except OSError:
        return {}
    pairs = (line.partition(":") for line in first.splitlines())
    return {name.strip().lower(): value.strip() for name, _, value in pairs}


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return ""
