"""Loads an artifact's graph into a backend, and checks its inputs and outputs against the card.

A backend is imported only for a policy that needs it: a server of an ONNX policy, in ONNX Runtime or OpenVINO, imports
no torch.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..artifact.artifact import Artifact
from ..errors import ArtifactError
from .backend import Arrays, Backend, Features
from .reset_check import check_reset

EXTRAS = {"torchscript": "torch", "onnx": "onnx", "openvino": "openvino"}
"""Backend → the extra of this package that installs what it needs."""
EXAMPLE_ROWS = 3  # neither 1 nor a batch shape, so that a graph with a fixed number of rows fails


@dataclass(frozen=True)
class LoadedGraph:
    """A backend with the graph, and the preprocessing if that is outside the graph."""

    backend: Backend
    features: Features | None


def load_graph(artifact: Artifact, backend: str, device: str, trusted: Sequence[str]) -> LoadedGraph:
    """Loads the graph for a backend and runs it on example observations.

    Args:
        artifact: verified.
        backend: `torchscript`, `onnx` or `openvino`.
        device: from `select_device`.
        trusted: types that preprocessor.skops may hold beyond TRUSTED_TYPES, when it runs outside the graph.

    Raises:
        ArtifactError: there is no graph for that backend, or its inputs or outputs are not those of the card.
    """
    card = artifact.card
    specs, outputs = card.graph_inputs, card.graph_outputs
    features = None if card.preprocessing.in_graph else _outside_the_graph(artifact, trusted)
    inputs = specs.names if features is None else ("features", *specs.names[len(card.observation) :])
    loaded = load_backend(backend, artifact.file_of_backend(backend), device, inputs, tuple(outputs))
    example = list(specs.example(EXAMPLE_ROWS).values())
    graph_inputs = example if features is None else list(features(example))
    before = [array.tobytes() for array in graph_inputs]
    try:
        answers = [np.array(answer) for answer in loaded(graph_inputs)]
        again = loaded(graph_inputs)
    except (RuntimeError, AttributeError, TypeError, ValueError, MemoryError) as error:  # the graph may return anything
        raise ArtifactError(
            f"the graph failed on an example of the card's observations: {_last_line(error)}"
        ) from error
    actual = [f"{answer.dtype.name} {list(answer.shape)}" for answer in answers]
    shapes = {name: f"float32 {[EXAMPLE_ROWS, *shape]}" for name, shape in outputs.items()}
    if actual != list(shapes.values()):
        wanted = ", ".join(f"{name} {shape}" for name, shape in shapes.items())
        needs = "the card's head needs" if card.memory is None else "the card's head and states need"
        raise ArtifactError(f"the graph returns {', '.join(actual)}, but {needs} {wanted}")
    if [array.tobytes() for array in graph_inputs] != before:
        raise ArtifactError("the graph overwrites its inputs, which are the caller's observations")
    if not all(np.allclose(one, two, equal_nan=True) for one, two in zip(answers, again, strict=True)):
        raise ArtifactError("the graph returns different outputs for the same observations when it runs again")
    if card.memory is not None:
        check_reset(loaded, graph_inputs, card.memory)
    return LoadedGraph(loaded, features)


def load_backend(name: str, graph: bytes, device: str, inputs: tuple[str, ...], outputs: tuple[str, ...]) -> Backend:
    """Loads the graph into the backend of that name.

    Args:
        name: `torchscript`, `onnx` or `openvino`.
        graph: verified bytes.
        device: from `select_device`.
        inputs: names, in the card's order.
        outputs: names: `raw`, then the head's parameters.

    Raises:
        ArtifactError: the bytes are not such a graph, or it uses operations that a policy may not use.
    """
    try:
        if name == "torchscript":
            from .torchscript_module import TorchScriptBackend

            return TorchScriptBackend(graph, device)
        if name == "openvino":
            from .openvino_model import OpenVinoBackend

            return OpenVinoBackend(graph, inputs, outputs)
        from .onnx_session import OnnxBackend

        return OnnxBackend(graph, device, inputs, outputs)
    except ModuleNotFoundError as error:
        raise ArtifactError(f"the backend {name} needs {error.name}: {how_to_install(name)}") from error


def how_to_install(backend: str) -> str:
    return f"pip install 'carla-mlflow[{EXTRAS[backend]}]'"


def runnable_backends(artifact: Artifact) -> tuple[str, ...]:
    """The backends that an artifact is for and, with a graph in ONNX, OpenVINO where it is installed."""
    others = ("openvino",) if "onnx" in artifact.backends and is_openvino_installed() else ()
    return tuple(dict.fromkeys((*artifact.backends, *others)))


def is_openvino_installed() -> bool:
    """Whether OpenVINO can be imported; does not import it."""
    return importlib.util.find_spec("openvino") is not None


def _outside_the_graph(artifact: Artifact, trusted: Sequence[str]) -> Features:
    from ..preprocessing.beside_graph import OutOfGraph
    from ..preprocessing.skops_file import load_preprocessor

    source = artifact.card.preprocessing.source
    assert source is not None  # `find_problems` refuses such cards
    transform = OutOfGraph(load_preprocessor(artifact.files[source], trusted))
    observed = len(artifact.card.observation)

    def features(arrays: Arrays) -> Arrays:
        flat = np.concatenate([array.reshape(len(array), -1) for array in arrays[:observed]], axis=1)
        return [transform(flat), *arrays[observed:]]

    return features


def _last_line(error: Exception) -> str:
    lines = [line for line in str(error).splitlines() if line.strip()]
    return lines[-1].strip() if lines else type(error).__name__
