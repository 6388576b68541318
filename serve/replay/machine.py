"""Whether the same bits are owed here: the recording's machine and engine against this one."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping

from carla_mlflow.inference.engine import Engine
from serve.record.machine import ENGINE, MACHINE, REFERENCE, Origin, this_machine

NAMES = {
    "architecture": "architecture",
    "processor": "processor",
    "flags": "instruction set",
    "numpy": "numpy",
    "torch": "torch",
    "onnxruntime": "onnxruntime",
    "openvino": "openvino",
    "backend": "backend",
    "device": "device",
}
"""What a policy's bits depend on besides its files → what it is called."""
OF_BACKEND = {"torch": "torchscript", "onnxruntime": "onnx", "openvino": "openvino"}
"""Libraries that one backend alone runs with."""

Machine = Mapping[str, str]


def engine_here(engine: Engine) -> dict[str, str]:
    """This machine and what runs the policy on it."""
    return this_machine() | {"backend": engine.backend, "device": engine.device.name}


def recorded_machines(origins: Iterable[Origin], digest: str) -> list[dict[str, str]]:
    """The machines and engines that answered by one policy, by what the files with its rows say; each once."""
    found: dict[tuple[tuple[str, str], ...], dict[str, str]] = {}
    for origin in origins:
        machine = _noted(origin, MACHINE) | _noted(origin, ENGINE + digest)
        found.setdefault(tuple(sorted(machine.items())), machine)
    return list(found.values())


def recorded_references(origins: Iterable[Origin]) -> list[str] | None:
    """The references that the servers followed, none for a folder; None where that is not known of all of them."""
    found = [origin.get(REFERENCE) for origin in origins]
    if None in found:
        return None
    return list(dict.fromkeys(line for text in found if text for line in text.splitlines()))


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


def _noted(origin: Origin, key: str) -> dict[str, str]:
    """A JSON object in a file's metadata; empty where it is not there or can't be read."""
    try:
        found = json.loads(origin.get(key, "{}"))
    except ValueError:
        return {}
    return {str(name): str(value) for name, value in found.items()} if isinstance(found, dict) else {}
