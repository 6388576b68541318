"""What a policy's bits depend on besides its files: the machine and the engine, as each file's metadata names them."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import platform
from pathlib import Path
from typing import TYPE_CHECKING

from registry.rules.reference import shown

if TYPE_CHECKING:
    from serve.settings import Settings

MACHINE, ENGINE, REFERENCE = "machine", "engine:", "reference"
"""Metadata keys of a file: the machine, and ENGINE and a digest for what ran that policy, JSON objects; and the
references that the server followed, a line each, empty for one artifact's folder."""
LIBRARIES = ("numpy", "torch", "onnxruntime", "openvino")

Origin = dict[str, str]
"""Some of a file's metadata: these keys → texts."""


def origin_of_server(settings: Settings) -> Origin:
    """Where a server's rows come from; what ran each policy is added with its card."""
    return {
        MACHINE: json.dumps(this_machine()),
        REFERENCE: "\n".join(shown(text) for text in settings.references if text),
    }


def engine_note(backend: str, device: str) -> str:
    """What runs a policy, as a file's metadata has it."""
    return json.dumps({"backend": backend, "device": device})


def this_machine() -> dict[str, str]:
    """What a policy's bits depend on here, empty texts for what is not installed or not known."""
    info = _cpuinfo()
    flags = " ".join(sorted(info.get("flags", info.get("features", "")).split()))
    return {
        "architecture": platform.machine(),
        "processor": info.get("model name", platform.processor()),
        "flags": hashlib.sha256(flags.encode()).hexdigest()[:16] if flags else "",
        **{name: _version(name) for name in LIBRARIES},
    }


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
