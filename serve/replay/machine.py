"""Whether the same bits are owed here: the recording's machine and engine against this one."""

from __future__ import annotations

import json
from typing import Any

NAMES = {
    "architecture": "architecture",
    "processor": "processor",
    "flags": "instruction set",
    "torch": "torch",
    "onnxruntime": "onnxruntime",
    "numpy": "numpy",
    "backend": "backend",
    "device": "device",
}
"""What a policy's bits depend on besides its files → what it is called."""

LIBRARIES = {"torch": "torchscript", "onnxruntime": "onnx"}
"""What only one backend runs with."""


def why_not_bits(recorded: dict[str, str], here: dict[str, str]) -> str:
    """Why the recorded bits need not be the same here, in words; empty where they have to be.

    Args:
        recorded: what is known of the recording's machine and engine, by the keys of NAMES. What is not known counts as
            the same: then a difference is told rather than excused.
        here: the same of this process.
    """
    other = []
    for key, name in NAMES.items():
        was, now = recorded.get(key, ""), here.get(key, "")
        if key in LIBRARIES and LIBRARIES[key] != here.get("backend"):
            continue
        if was and now and was != now:
            other.append(f"another {name}" if key == "flags" else f"{name} {now} instead of {was}")
    return "; ".join(other)


def noted(metadata: dict[bytes, bytes] | None, key: str) -> dict[str, Any]:
    """A JSON object in a recording's metadata; empty where it is not there or can't be read."""
    try:
        found = json.loads((metadata or {}).get(key.encode(), b"{}"))
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
