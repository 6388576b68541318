"""What commonly goes wrong on this machine: the cache, the backends and their devices, Python, telemetry."""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator

from carla_mlflow.backends.loading import how_to_install
from carla_mlflow.errors import CacheError, CarlaMlflowError
from carla_mlflow.escaping import one_line
from carla_mlflow.look import size
from carla_mlflow.own_process import values_of
from registry.checks.finding import Finding
from registry.store.cache import default_cache, folder_bytes

FREE_BYTES = 10**9
"""With less on its disk the cache is likely to fill up."""
TESTED = ((3, 11), (3, 12), (3, 13))
"""Versions of Python that this project is meant for."""
TELEMETRY = {
    "MLFLOW_DISABLE_TELEMETRY": ("MLflow", ("true", "1")),
    "ORT_DISABLE_TELEMETRY": ("ONNX Runtime", ("1",)),
    "RAY_USAGE_STATS_ENABLED": ("Ray", ("0",)),
}
"""Variable → whose usage data it is, and the values with which none is sent."""
MODULES = {"onnx": "onnxruntime", "torchscript": "torch", "openvino": "openvino"}
"""Backend → the module that it needs."""


def machine_findings() -> Iterator[Finding]:
    """Looks at Python, the cache, the backends and telemetry, in this order."""
    yield python_finding(sys.version_info[:2])
    yield cache_finding()
    yield from backend_findings()
    yield telemetry_finding(os.environ)


def python_finding(version: tuple[int, ...]) -> Finding:
    """Whether this Python is one that the project is meant for."""
    text = ".".join(map(str, version))
    if version in TESTED:
        return Finding("python", True, text)
    tested = ", ".join(".".join(map(str, each)) for each in TESTED)
    return Finding("python", False, f"{text} is untested", f"use one of {tested}")


def cache_finding() -> Finding:
    """Whether fetched artifacts can be stored, how large they are, and how much room is left."""
    try:
        cache = default_cache()
    except CacheError as error:
        return Finding("cache", False, one_line(error), "let POLICY_CACHE_DIR name a folder")
    there = next(path for path in (cache, *cache.absolute().parents) if path.exists())
    try:
        with tempfile.TemporaryFile(dir=there):
            pass
    except OSError as error:
        return Finding("cache", False, f"{cache} can't be written: {error.strerror}", "set POLICY_CACHE_DIR to another")
    held, free = folder_bytes(cache), shutil.disk_usage(there).free
    found = f"{cache}: {size(held)} held, {size(free)} free"
    if free < FREE_BYTES:
        return Finding("cache", False, found, "make room: carla-registry gc, or set POLICY_CACHE_DIR to another disk")
    return Finding("cache", True, found)


def backend_findings() -> Iterator[Finding]:
    """Runs a small graph with each backend, in a process of its own, on each device."""
    missing = [name for name, module in MODULES.items() if importlib.util.find_spec(module) is None]
    for name, module in MODULES.items():
        if name in missing:
            todo = how_to_install(name)
            is_only = len(missing) == len(MODULES)
            found = f"{module} is not installed" + ("" if is_only else f"; policies of that backend need it: {todo}")
            yield Finding(name, not is_only, found, todo if is_only else "")
            continue
        try:
            yield Finding(name, True, ", ".join(values_of("registry.checks.backend_works", [name])))
        except CarlaMlflowError as error:
            yield Finding(name, False, one_line(error), f"install {module} again, for this processor and this driver")


def telemetry_finding(environment: os._Environ[str] | dict[str, str]) -> Finding:
    """Whether the libraries below this project are told to send no usage data to their makers."""
    on = [name for name, (_, off) in TELEMETRY.items() if environment.get(name, "").lower() not in off]
    if not on:
        return Finding("telemetry", True, f"off: {', '.join(name for name, _ in TELEMETRY.values())}")
    said = ", ".join(f"{TELEMETRY[name][0]} ({name}={environment.get(name, '')})" for name in on)
    return Finding("telemetry", False, f"on: {said}", f"unset {', '.join(on)}: then it is off")
