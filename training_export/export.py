"""A trained policy → a policy artifact: one graph, golden answers, a card; compared before it is written."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np
import torch
from numpy.typing import NDArray

from carla_mlflow.artifact import Artifact, seal
from carla_mlflow.card import FORMAT
from carla_mlflow.card_sections import Card, FileCard, Parity, Preprocessing, observation_spec
from carla_mlflow.device import select_device
from carla_mlflow.engine import Engine
from carla_mlflow.errors import ExportError, ParityError
from carla_mlflow.golden import GOLDEN_IMAGE_ROWS, GOLDEN_ROWS, Golden
from carla_mlflow.specs import ObservationSpec
from training_export.graph import PolicyGraph, to_torchscript
from training_export.trained import TrainedPolicy, stack

COMPARED_ROWS = 1024
LATENCY_CALLS = 2_000

Arrays = Mapping[str, NDArray[Any]]


@dataclass(frozen=True)
class Export:
    """An artifact in memory, and how it compares with the trained policy."""

    artifact: Artifact
    engine: Engine
    rows: int
    largest_difference: float


def export_policy(trained: TrainedPolicy, name: str, version: str, description: str) -> Export:
    """Makes an artifact in memory and holds it against the trained policy.

    Raises:
        ExportError: the graph can't be exported, or does not act as the trained policy does.
    """
    specs = observation_spec(trained.observation)
    observations = compared_observations(specs, trained.driving)
    weights = weights_hash(trained.graph)
    answers = trained.answer(observations)
    if weights_hash(trained.graph) != weights:
        raise ExportError("the network changes its own buffers when it is asked: a served policy can't have a memory")
    files = {"model.pt": to_torchscript(trained.graph, specs), "golden.npz": _golden_part(answers, specs).to_bytes()}
    if trained.preprocessor is not None:
        files["preprocessor.skops"] = trained.preprocessor
    card = Card(
        format=FORMAT,
        name=name,
        version=version,
        backend="torchscript",
        description=description,
        observation=trained.observation,
        action=trained.action,
        files={n: FileCard("", "torchscript" if n == "model.pt" else None) for n in files},
        preprocessing=Preprocessing(True, "preprocessor.skops" if trained.preprocessor is not None else None),
        parity=Parity(),
        weights=weights,
        training=trained.training,
    )
    artifact = seal(card, files)
    try:
        engine = Engine(artifact, select_device("cpu"))
        difference = engine.compare(answers)
    except ParityError as error:
        raise ExportError(f"the exported graph does not act as the trained policy: {error}") from error
    return Export(artifact, engine, len(answers.raw), difference)


def with_metrics(export: Export, metrics: Mapping[str, Any]) -> Artifact:
    """The artifact again with what was measured in its card; the policy stays the same."""
    card = msgspec.structs.replace(export.artifact.card, metrics=dict(metrics))
    files = {name: data for name, data in export.artifact.files.items() if name in card.files}
    return seal(card, files)


def compared_observations(specs: ObservationSpec, driving: Arrays | None) -> dict[str, NDArray[Any]]:
    """COMPARED_ROWS observations: half from driving, a quarter at the bounds, a quarter uniform.

    Without driving its half is uniform too.
    """
    rng = np.random.default_rng(0)
    half, quarter = COMPARED_ROWS // 2, COMPARED_ROWS // 4
    if driving is None:
        first: Arrays = {spec.name: spec.sample(rng, half) for spec in specs}
    else:
        picked = rng.choice(len(driving[specs[0].name]), half, replace=len(driving[specs[0].name]) < half)
        first = {spec.name: np.clip(driving[spec.name][picked], spec.lows, spec.highs) for spec in specs}
    corners = {spec.name: spec.corners(rng, quarter) for spec in specs}
    uniform = {spec.name: spec.sample(rng, quarter) for spec in specs}
    return stack(specs, [first, corners, uniform])


def _golden_part(answers: Golden, specs: ObservationSpec) -> Golden:
    """Evenly spaced rows of the comparison, so its shares of driving, bounds and uniform stay as they are."""
    step = COMPARED_ROWS // (GOLDEN_IMAGE_ROWS if specs.has_image else GOLDEN_ROWS)
    return Golden(
        {name: array[::step] for name, array in answers.observations.items()},
        answers.raw[::step],
        {name: array[::step] for name, array in answers.distribution.items()},
        answers.action[::step],
        None if answers.features is None else answers.features[::step],
    )


def weights_hash(graph: PolicyGraph) -> str:
    """sha256 over every parameter and buffer: name, type, shape and bytes, by name."""
    digest = hashlib.sha256()
    for name, tensor in sorted(graph.state_dict().items()):
        array = tensor.detach().cpu().contiguous().numpy()
        digest.update(f"{name} {array.dtype} {list(array.shape)}\n".encode())
        digest.update(array.tobytes())
    return "sha256:" + digest.hexdigest()


def measure_latency(engine: Engine) -> dict[str, Any]:
    """Time of one `act` call with one row on the CPU, milliseconds."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        engine.warm_up(calls=200)
        timings = engine.warm_up(calls=LATENCY_CALLS)
    finally:
        torch.set_num_threads(threads)
    return {"cpu": {f"p{q}": round(float(np.percentile(timings, q)), 4) for q in (50, 99)}}
