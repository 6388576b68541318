"""A TorchScript or an ONNX file that returns the head's parameters, and its card → a TrainedPolicy."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from carla_mlflow.artifact.golden import Golden
from carla_mlflow.backends.onnx_checks import checked_model
from carla_mlflow.backends.onnx_session import OnnxBackend
from carla_mlflow.backends.torchscript_archive import checked_archive
from carla_mlflow.backends.torchscript_ops import check_operations
from carla_mlflow.backends.torchscript_purity import check_purity
from carla_mlflow.contract.card_sections import ActionCard, FieldCard, observation_spec
from carla_mlflow.contract.specs import ObservationSpec
from carla_mlflow.errors import ArtifactError, CardError, ExportError
from training_export.graphs.onnx_file import OnnxFile, output_names
from training_export.sources.draft import CardDraft, complete
from training_export.sources.from_module import from_network
from training_export.sources.preprocessed import Prepare, Preprocessed, no_preprocessor
from training_export.sources.seen import of_scaler, with_seen
from training_export.sources.trained import Arrays, TrainedPolicy, golden_of


def from_torchscript(path: Path, draft: CardDraft, prepare: Prepare = no_preprocessor) -> TrainedPolicy:
    """model.pt: takes the named observations in the card's order (with a preprocessor: its features).

    Raises:
        ExportError: it does not fit the card.
        ArtifactError: it is not TorchScript, or uses operations that a policy may not.
    """
    section, action = _sections(path, draft)
    prepared = prepare(observation_spec(section))
    return from_network(path.name, load_script(path), draft, section, action, prepared)


def load_script(path: Path) -> torch.jit.ScriptModule:
    """Loads a TorchScript file, after a check that it uses allowed operations only, before any of it runs."""
    data = checked_archive(path.read_bytes())
    try:
        module: torch.jit.ScriptModule = torch.jit.load(io.BytesIO(data), map_location="cpu")  # type: ignore[no-untyped-call]
        check_operations(module)
        check_purity(torch.jit.freeze(module.eval()).forward.inlined_graph)
    except (RuntimeError, AttributeError) as error:
        raise ArtifactError(f"{path.name}: not a network in TorchScript: {str(error).splitlines()[0]}") from error
    return module


def from_onnx(path: Path, draft: CardDraft, prepare: Prepare = no_preprocessor) -> TrainedPolicy:
    """model.onnx: takes the observations by name (with a preprocessor: one input), batch axis first.

    Raises:
        ExportError: it does not fit the card.
        ArtifactError: it is not ONNX, or has external data or operators of other domains.
    """
    section, action = _sections(path, draft)
    prepared = prepare(observation_spec(section))
    section = with_seen(section, of_scaler(prepared.transformer, observation_spec(section)))
    specs = observation_spec(section)
    file = _onnx_file(path, prepared, specs, action)
    network, batch = file.load(), file.batch

    def answer(observations: Arrays) -> Golden:
        inputs, features = prepared.inputs(specs, observations)
        try:
            outputs = _run(network, batch, inputs)
        except RuntimeError as error:
            raise ExportError(f"{path.name}: does not take the card's observations: {error}") from error
        return golden_of(action, observations, outputs, features)

    answer(specs.example(2))  # refuses a file that doesn't fit its card before anything is exported
    if batch:
        _check_open(path.name, file, prepared.inputs(specs, specs.example(3))[0])
    return TrainedPolicy(
        graph=file,
        observation=section,
        action=action,
        answer=answer,
        preprocessor=prepared.data,
        features=prepared.features(specs),
        trusted=prepared.trusted,
        training=draft.training,
    )


def _onnx_file(path: Path, prepared: Preprocessed, specs: ObservationSpec, action: ActionCard) -> OnnxFile:
    if prepared.module is not None:
        raise ExportError(
            f"{path.name}: a preprocessor can't be put into an ONNX file's graph; export the network from torch, "
            "or put the preprocessing into the file"
        )
    inputs = specs.names if prepared.transformer is None else ("features",)
    return OnnxFile(checked_model(path.read_bytes()), inputs).narrowed(output_names(action))


def _run(network: OnnxBackend, batch: int, inputs: list[NDArray[Any]]) -> list[NDArray[np.float32]]:
    """Runs a network on rows; with a fixed batch size, row by row, each repeated to fill the batch."""
    if not batch:
        return [np.asarray(output) for output in network(inputs)]
    rows = [network([array[at : at + 1].repeat(batch, axis=0) for array in inputs]) for at in range(len(inputs[0]))]
    return [np.concatenate([output[:1] for output in outputs]) for outputs in zip(*rows, strict=True)]


def _check_open(source: str, file: OnnxFile, inputs: list[NDArray[Any]]) -> None:
    remedy = "export it with an open batch axis: torch.onnx.export(…, dynamic_axes={NAME: {0: 'rows'}, …})"
    try:
        outputs = file.load(open_batch=True)(inputs)
    except (RuntimeError, ArtifactError) as error:
        raise ExportError(
            f"{source}: its batch size is fixed at {file.batch}, inside the graph too: {error}; {remedy}"
        ) from error
    if any(len(output) != len(inputs[0]) for output in outputs):
        raise ExportError(f"{source}: its batch size is fixed at {file.batch}, inside the graph too; {remedy}")


def _sections(path: Path, draft: CardDraft) -> tuple[dict[str, FieldCard], ActionCard]:
    if draft.observation is None:
        raise CardError(f"{path.name}: pass --card FILE with its observation and action sections")
    return draft.observation, complete(draft.action)
