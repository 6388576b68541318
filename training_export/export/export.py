"""Makes a policy artifact (graphs, golden rows, card) from a trained policy, and compares the two."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np
import torch
from msgspec import UNSET

from carla_mlflow.artifact.artifact import Artifact, seal
from carla_mlflow.backends.loading import how_to_install, is_openvino_installed
from carla_mlflow.backends.weights import hash_arrays, torch_weights
from carla_mlflow.contract.backend_names import graph_of
from carla_mlflow.contract.card import Card
from carla_mlflow.contract.card_rules import observation_problems
from carla_mlflow.contract.card_sections import FileCard, Parity, Preprocessing
from carla_mlflow.contract.specs import ObservationSpec
from carla_mlflow.errors import ArtifactError, CardError, ExportError
from carla_mlflow.escaping import one_line
from carla_mlflow.inference.backend_choice import Figures, fastest, measure
from carla_mlflow.inference.engine import Engine
from training_export.export.compared import ReferenceAnswers, compare, reference_answers
from training_export.export.rollouts import ReferenceRollouts, compare_rollouts, reference_rollouts
from training_export.graphs.graph import PolicyGraph, to_torchscript
from training_export.graphs.onnx_export import to_onnx
from training_export.graphs.onnx_file import OnnxFile
from training_export.sources.trained import TrainedPolicy, without_memory

EXAMPLE_ROWS = 3
"""Rows of the batch with which the graph is traced: more than one, so that no size is mistaken for a constant."""
LATENCY_CALLS, LATENCY_S = 2_000, 3.0
FILES = {"torchscript": "model.pt", "onnx": "model.onnx"}


@dataclass(frozen=True)
class Export:
    """An artifact in memory, and how it compares with the trained policy.

    Attributes:
        artifact: sealed; its card names the faster backend, or the one that was asked for.
        engines: backend → its engine, for each backend in parity.
        differences: backend → the largest difference from the trained policy.
        figures: milliseconds of `act`, by backend and rows.
        left_out: backend → why the artifact is not for it.
        reference: the trained policy's answers, and how far a graph may differ.
    """

    artifact: Artifact
    engines: dict[str, Engine]
    differences: dict[str, float]
    figures: Figures
    left_out: dict[str, str]
    reference: ReferenceAnswers | ReferenceRollouts

    @property
    def rows(self) -> int:
        """How many observations were compared."""
        return self.reference.rows

    @property
    def engine(self) -> Engine:
        """The engine of the backend that the card names."""
        return self.engines[self.artifact.card.backend]


def export_policy(
    trained: TrainedPolicy,
    name: str,
    version: str,
    description: str,
    parity: Parity | None = None,
    backend: str | None = None,
) -> Export:
    """Makes an artifact in memory and compares it with the trained policy.

    Args:
        trained: the policy.
        name: for the card, as `version` and `description`.
        version: semantic.
        description: one line.
        parity: the author's tolerance for a graph; None derives it from the trained policy's own noise.
        backend: for the card; None for the faster of those whose graph is in the artifact.

    Raises:
        CardError: the observation section breaks a card's rule.
        ExportError: no graph can be exported, none acts as the trained policy does, or not on that backend.
    """
    if problems := observation_problems(trained.observation, trained.action.head):
        raise CardError("; ".join(problems))
    specs = trained.inputs
    weights = weights_hash(trained.graph)
    reference: ReferenceAnswers | ReferenceRollouts = (
        reference_rollouts(trained, parity) if trained.states else reference_answers(trained, specs, parity)
    )
    if weights_hash(trained.graph) != weights:
        raise ExportError("the network changes its own buffers when it runs: a served policy keeps no state")
    graphs, left_out = _graphs(trained, specs)
    others = {"golden.npz": reference.golden.to_bytes()}
    if trained.preprocessor is not None:
        others["preprocessor.skops"] = trained.preprocessor
    card = _card(trained, name, version, description, weights, reference.parity)
    engines, differences = {}, {}
    for tried in (*graphs, *_without_a_graph(graphs)):
        if (graph := graph_of(tried)) != tried and graph not in engines:
            continue  # the file is no part of the artifact
        try:
            artifact = _seal(card, {graph: graphs[graph]}, others, tried)
            engines[tried] = Engine(artifact, "cpu", trusted=trained.trusted)
            differences[tried] = _compare(engines[tried], trained, reference)
        except (ArtifactError, RuntimeError) as error:  # RuntimeError: raised by the backend itself
            engines.pop(tried, None)
            left_out[tried] = f"the exported graph does not act as the trained policy: {one_line(error)}"
    if not engines:
        raise ExportError("; ".join(f"{FILES[tried]}: {reason}" for tried, reason in left_out.items()))
    if backend is not None and backend not in engines:
        why = left_out.get(backend) or left_out.get(graph_of(backend)) or f"not installed: {how_to_install(backend)}"
        raise ExportError(f"the card can't name the backend {backend}: {why}")
    with _one_thread():
        figures = measure(engines)
    own = {name: figures[name] for name in engines if name in graphs}
    artifact = _seal(card, {name: graphs[name] for name in own}, others, backend or fastest(own))
    return Export(artifact, engines, differences, figures, left_out, reference)


def _without_a_graph(graphs: Mapping[str, bytes]) -> tuple[str, ...]:
    """The backends that read another one's graph, where they are installed; tried after those."""
    return ("openvino",) if "onnx" in graphs and is_openvino_installed() else ()


def _compare(engine: Engine, trained: TrainedPolicy, reference: ReferenceAnswers | ReferenceRollouts) -> float:
    if isinstance(reference, ReferenceRollouts):
        return compare_rollouts(engine, trained, reference)
    return compare(engine, trained, reference)


def _card(trained: TrainedPolicy, name: str, version: str, description: str, weights: str, parity: Parity) -> Card:
    return Card(
        format=1,  # `dump_card` writes the format that the card's keys need
        name=name,
        version=version,
        backend="torchscript",
        description=description,
        observation=trained.observation,
        state=trained.states or UNSET,
        action=trained.action,
        files={},
        preprocessing=Preprocessing(trained.features is None, "preprocessor.skops" if trained.preprocessor else None),
        parity=parity,
        weights=weights,
        training=trained.training,
    )


def _seal(card: Card, graphs: Mapping[str, bytes], others: Mapping[str, bytes], backend: str) -> Artifact:
    listed = {FILES[b]: FileCard("", b) for b in graphs} | {file: FileCard("") for file in others}  # type: ignore[arg-type]
    card = msgspec.structs.replace(card, backend=backend, files=listed)
    return seal(card, {FILES[b]: data for b, data in graphs.items()} | dict(others))


def _graphs(trained: TrainedPolicy, specs: ObservationSpec) -> tuple[dict[str, bytes], dict[str, str]]:
    """Backend → its graph, and backend → why there is no graph for it."""
    graph = trained.graph
    if isinstance(graph, OnnxFile):
        return {"onnx": graph.with_head(trained.action)}, {"torchscript": "the source is an ONNX file"}
    graph.eval()
    example = specs.example(EXAMPLE_ROWS)
    names: tuple[str, ...] = specs.names
    arrays = list(example.values())
    if trained.features is not None:
        observed = len(trained.observation)
        names = ("features", *names[observed:])
        arrays = [trained.features(without_memory(example, trained.states)), *arrays[observed:]]
    examples = tuple(torch.from_numpy(array) for array in arrays)
    if any(isinstance(module, torch.jit.ScriptModule) for module in graph.modules()):
        reason = "TorchScript can't be turned into ONNX; hand over the torch module itself for both"
        return {"torchscript": to_torchscript(graph, examples)}, {"onnx": reason}
    made, left_out = {"torchscript": to_torchscript(trained.scripted or graph, examples)}, {}
    try:
        made["onnx"] = to_onnx(graph, examples, names)
    except ExportError as error:
        left_out["onnx"] = str(error)
    return made, left_out


def with_metrics(export: Export, metrics: Mapping[str, Any]) -> Artifact:
    """The artifact with the measured figures added to its card; the policy stays the same."""
    card = msgspec.structs.replace(export.artifact.card, metrics=dict(metrics))
    return seal(card, {name: export.artifact.files[name] for name in card.files})


def weights_hash(graph: PolicyGraph | OnnxFile) -> str:
    """sha256 over every parameter and buffer: name, type, shape and bytes, sorted by name."""
    if isinstance(graph, OnnxFile):
        return graph.weights_hash()
    return hash_arrays(torch_weights(graph.state_dict()))


def measure_latency(engine: Engine) -> dict[str, Any]:
    """Time of one `act` call with one row on the CPU, milliseconds."""
    with _one_thread():
        once = max(engine.warm_up(calls=20)[10:]) / 1e3
        timings = engine.warm_up(calls=max(20, min(LATENCY_CALLS, int(LATENCY_S / once))))
    return {"cpu": {f"p{q}": round(float(np.percentile(timings, q)), 4) for q in (50, 99)}}


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    """Lets torch use one thread, as in a server's worker."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
