"""Versions of the example policy for tests of the registry: other cards, other weights, other contracts."""

from __future__ import annotations

import io
import os
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import mlflow
import msgspec
import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import numpy_helper
from registered_once import copy_registry, fresh_home, made_once
from tests_support import EXAMPLE

from carla_mlflow import Artifact, open_artifact, write_artifact
from carla_mlflow.artifact.artifact import seal
from carla_mlflow.backends.weights import ONNX_PREFIX, hash_arrays, onnx_weights
from carla_mlflow.contract.card_sections import FileCard
from carla_mlflow.flavor.model import log_policy
from carla_mlflow.flavor.runs import logging_run
from registry.moves.judge import promotion_gates, rollback_gates
from registry.moves.promotion import promote, rollback
from registry.moves.registration import register
from registry.moves.terms import GateResult, MoveOptions, MoveResult
from registry.rules.policy_version import PolicyVersion
from registry.rules.reference import parse_reference
from registry.store.cache import default_cache
from registry.store.store import Store

NAME = "racetrack-policy"


@cache
def example() -> Artifact:
    """The example policy with its ONNX graph alone: it loads in a tenth of the time, and moves know no graphs."""
    full = open_artifact(EXAMPLE)
    graph = onnx.load_model_from_string(full.file_of_backend("onnx"))
    names = {tensor.name: ONNX_PREFIX + tensor.name for tensor in graph.graph.initializer}  # whose hash `weights` is
    for tensor in graph.graph.initializer:
        tensor.name = names[tensor.name]
    for node in graph.graph.node:
        node.input[:] = [names.get(name, name) for name in node.input]
    golden = full.card.parity.file
    files = {"model.onnx": FileCard("", "onnx"), golden: FileCard("")}
    card = msgspec.structs.replace(
        full.card,
        backend="onnx",
        files=files,
        preprocessing=msgspec.structs.replace(full.card.preprocessing, source=None),
        weights=hash_arrays(onnx_weights(graph)),
    )
    return seal(card, {"model.onnx": graph.SerializeToString(), golden: full.files[golden]})


def changed(folder: Path, version: str, **card: Any) -> str:
    """The example again under another version, with other sections of its card."""
    new = msgspec.structs.replace(example().card, version=version, **card)
    files = {name: example().files[name] for name in new.files}
    place = folder / f"{version}-{len(list(folder.glob('*')))}"
    return str(write_artifact(place, seal(new, files)).path)


def steering(folder: Path, version: str, share: float, **card: Any) -> str:
    """The example with this share of what its last layer gives: other weights, other actions, another golden set."""
    graph = onnx.load_model_from_string(example().files["model.onnx"])
    for tensor in graph.graph.initializer:
        if tensor.name.endswith("actor.1.weight"):
            tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor) * np.float32(share), tensor.name))
    data = graph.SerializeToString()
    with np.load(io.BytesIO(example().files["golden.npz"])) as file:
        golden = dict(file)
    session, names = onnxruntime.InferenceSession(data), ("raw", "mean", "std")
    raw, mean, _ = session.run(names, {each.name: golden[f"observation.{each.name}"] for each in session.get_inputs()})
    acceleration, steer = raw.clip(-1, 1).T
    action = np.stack([acceleration.clip(0, 1), (-acceleration).clip(0, 1), steer], axis=1)
    golden |= {"raw": raw, "distribution.mean": mean, "action": action.astype(np.float32)}
    written = io.BytesIO()
    np.savez(written, **golden)
    new = msgspec.structs.replace(example().card, version=version, weights=hash_arrays(onnx_weights(graph)), **card)
    artifact = seal(new, {"model.onnx": data, "golden.npz": written.getvalue()})
    return str(write_artifact(folder / f"{version}-steering", artifact).path)


def at_another_rate(rate_hz: float) -> Any:
    """An action section that a car's code has to follow: another contract."""
    return msgspec.structs.replace(example().card.action, rate_hz=rate_hz)


def cache_folder() -> Path:
    """Where the commands keep what they fetch when nobody says where."""
    return default_cache()


def logged(uri: str, sources: Sequence[str]) -> list[str]:
    """Logs policies to an MLflow server, once for all names that they are registered under; what to register."""
    found = []
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("MLFLOW_TRACKING_URI", uri)
        os.environ.pop("MLFLOW_EXPERIMENT_ID", None)
        patched.setattr(mlflow.tracking.fluent, "_active_experiment_id", None)  # of another test's store
        for source in sources:
            with logging_run():
                found.append(log_policy(open_artifact(source)))
    os.environ.pop("MLFLOW_EXPERIMENT_ID", None)  # MLflow sets it by itself
    return found


def enter(store: Store, source: str, name: str | None = None) -> tuple[PolicyVersion, bool]:
    """Registers under the card's own version."""
    return register(store, source, cache_folder(), name)


def registered(store: Store, folder: Path, *versions: str, **stages: str) -> list[PolicyVersion]:
    """Registers the example under these versions, and promotes some: `production="0.1.0"`.

    In a fresh registry that is done by copying one in which it was done before.
    """
    home = fresh_home()
    if home is None:
        for each in versions:
            _register(folder, each)
        for stage, version in stages.items():
            to_stage(store, f"{NAME}@{version}", stage)
    else:
        made = _made(home, folder.parent / "registered", versions, tuple(stages.items()))
        copy_registry(made, home, Path(os.environ["XDG_CACHE_HOME"]))
    return [found for each in versions if (found := store.find(NAME, each)) is not None]


def _made(home: Path, folder: Path, versions: tuple[str, ...], stages: tuple[tuple[str, str], ...]) -> Path:
    """A registry with these versions; each is made of the one with one step less, the first of the empty one."""
    if stages:
        *earlier, (stage, version) = stages
        before = _made(home, folder, versions, tuple(earlier))
        place = folder / "-".join([*versions, *(f"{held}-in-{alias}" for alias, held in stages)])
        return made_once(place, before, lambda _: to_stage(Store(), f"{NAME}@{version}", stage))
    if not versions:
        return home
    before = _made(home, folder, versions[:-1], ())
    return made_once(folder / "-".join(versions), before, lambda sources: _register(sources, versions[-1]))


def _register(folder: Path, version: str) -> PolicyVersion:
    return register(Store(), changed(folder, version, description=version), cache_folder())[0]


def to_production(store: Store, version: str, name: str = NAME, **asked: Any) -> MoveResult:
    return to_stage(store, f"{name}@{version}", "production", **asked)


def to_stage(store: Store, reference: str, stage: str, **asked: Any) -> MoveResult:
    # By the gates of staging: what production asks beyond has tests of its own, which drive.
    return promote(
        store, parse_reference(reference), stage, cache_folder(), MoveOptions(**asked), promotion_gates("staging")
    )


def moved(store: Store, version: str, stage: str = "production", **asked: Any) -> MoveResult:
    """The move alone, for tests of what comes after it: each move's gates load the policy in a process of its own."""
    reference = parse_reference(f"{NAME}@{version}")
    return promote(store, reference, stage, cache_folder(), MoveOptions(**asked), lambda *_: GateResult())


def roll_back(store: Store, allow_breaking: bool = False, name: str = NAME, **asked: Any) -> MoveResult:
    return rollback(store, name, "production", cache_folder(), MoveOptions(**asked), rollback_gates(allow_breaking))
