"""A TorchScript or an ONNX file that returns the head's parameters, and its card → a TrainedPolicy."""

from __future__ import annotations

import io
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray

from carla_mlflow.artifact.golden import Golden
from carla_mlflow.backends.onnx_checks import checked_model
from carla_mlflow.backends.onnx_session import OnnxBackend, silent
from carla_mlflow.backends.torchscript_archive import checked_archive
from carla_mlflow.backends.torchscript_ops import check_operations
from carla_mlflow.backends.torchscript_purity import check_purity, memory_of
from carla_mlflow.contract.action_card import ActionCard
from carla_mlflow.contract.field_card import FieldCard, observation_spec
from carla_mlflow.contract.specs import ObservationSpec
from carla_mlflow.errors import ArtifactError, CardError, ExportError
from training_export.graphs.onnx_file import OnnxFile, output_names
from training_export.sources.draft import CardDraft, NoActionError, complete
from training_export.sources.file_inputs import (
    hidden_memory,
    of_onnx,
    of_torchscript,
    refuse_memory,
    seen_by_onnx,
)
from training_export.sources.from_module import check_shapes, from_network, needed_outputs
from training_export.sources.onnx_weights import read_onnx
from training_export.sources.preprocessed import Prepare, Preprocessed, no_preprocessor
from training_export.sources.seen import of_scaler, with_seen
from training_export.sources.trained import Arrays, TrainedPolicy, golden_of

OPENED_ROWS = 5
"""Rows with which a file whose batch axis was opened is compared with itself, before the export does it with more."""


def from_torchscript(path: Path, draft: CardDraft, prepare: Prepare = no_preprocessor) -> TrainedPolicy:
    """model.pt: takes the named observations in the card's order (with a preprocessor: its features).

    Without an observation section in the card it takes one vector, named `obs`. A card with several observations may
    also stand before a network that takes them as one vector, in the card's order.

    Raises:
        ExportError: it does not fit the card, or keeps a memory between its calls.
        ArtifactError: it is not TorchScript, or uses operations that a policy may not.
    """
    action, script = _action(path, draft), load_script(path)
    said = draft.observation
    section = _said(path, draft) if prepare is not no_preprocessor else said or of_torchscript(path.name, script)
    prepared = prepare(observation_spec(section))
    trained = from_network(path.name, script, draft, section, action, prepared)
    return trained if said else replace(trained, assumed=_assumed(section))


def load_script(path: Path) -> torch.jit.ScriptModule:
    """Loads a TorchScript file, after a check that it uses allowed operations only, before any of it runs."""
    data = path.read_bytes()
    if _is_checkpoint(data):
        raise ExportError(
            f"{path.name}: holds weights, as torch.save writes them, but not the network that they belong to: write a "
            "build() that makes the network and loads them (docs/how-to/recipes.md), and pass FILE.py:build"
        )
    data = checked_archive(data)
    try:
        module: torch.jit.ScriptModule = torch.jit.load(io.BytesIO(data), map_location="cpu")  # type: ignore[no-untyped-call]
        check_operations(module)
        graph = torch.jit.freeze(module.eval()).forward.inlined_graph
        written = memory_of(graph)
        if not written:
            check_purity(graph)
    except (RuntimeError, AttributeError) as error:
        raise ArtifactError(f"{path.name}: not a network in TorchScript: {str(error).splitlines()[0]}") from error
    if written:
        raise ExportError(f"{path.name}: {hidden_memory(written)}")
    return module


def _is_checkpoint(data: bytes) -> bool:
    """Whether a file is torch.save's: a pickle of tensors in a zip, without TorchScript's own constants."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            names = {name.rpartition("/")[2] for name in archive.namelist()}
    except (zipfile.BadZipFile, NotImplementedError):
        return False  # `checked_archive` says what it is
    return "data.pkl" in names and "constants.pkl" not in names


def from_onnx(path: Path, draft: CardDraft, prepare: Prepare = no_preprocessor) -> TrainedPolicy:
    """model.onnx: takes the observations by name (with a preprocessor: one input), batch axis first.

    Without an observation section in the card the file's inputs are the observations. A card with other names may also
    stand before a network that takes one vector, in the card's order.

    Raises:
        ExportError: it does not fit the card.
        ArtifactError: it is not ONNX, or has operators of other domains.
    """
    action, data = _action(path, draft), checked_model(read_onnx(path))
    model, said = onnx.load_model_from_string(data), draft.observation
    refuse_memory(path.name, model, set(said or ()), len(output_names(action)))
    section = _said(path, draft) if prepare is not no_preprocessor else said or of_onnx(path.name, model)
    prepared = prepare(observation_spec(section))
    specs = observation_spec(section)
    scaled = prepared.transformer is not None
    section = with_seen(section, of_scaler(prepared.transformer, specs) if scaled else seen_by_onnx(model, specs))
    specs = observation_spec(section)
    file = _onnx_file(path, data, prepared, specs, action)
    network, batch = file.load(), file.batch

    def answer(observations: Arrays) -> Golden:
        inputs, features = prepared.inputs(specs, observations)
        try:
            outputs = _run(network, batch, inputs)
        except RuntimeError as error:
            raise ExportError(f"{path.name}: does not take the card's observations: {error}") from error
        check_shapes([output.shape for output in outputs], needed_outputs(action, {}))
        return golden_of(action, observations, outputs, features)

    answer(specs.example(2))  # refuses a file that doesn't fit its card before anything is exported
    if batch:
        file = open_batch(path.name, file, prepared.inputs(specs, _any_rows(specs))[0], network)
    return TrainedPolicy(
        graph=file,
        observation=section,
        action=action,
        answer=answer,
        preprocessor=prepared.data,
        features=prepared.features(specs),
        trusted=prepared.trusted,
        training=draft.training,
        assumed="" if said else _assumed(section),
    )


def _onnx_file(path: Path, data: bytes, prepared: Preprocessed, specs: ObservationSpec, action: ActionCard) -> OnnxFile:
    if prepared.module is not None:
        raise ExportError(
            f"{path.name}: a preprocessor can't be put into an ONNX file's graph; export the network from torch, "
            "or put the preprocessing into the file"
        )
    inputs = specs.names if prepared.transformer is None else ("features",)
    file = OnnxFile(data, inputs).narrowed(output_names(action))
    return file.taking(specs) if prepared.transformer is None else file


def _run(network: OnnxBackend, batch: int, inputs: list[NDArray[Any]]) -> list[NDArray[np.float32]]:
    """Runs a network on rows; with a fixed batch size, row by row, each repeated to fill the batch."""
    if not batch:
        return [np.asarray(output) for output in network(inputs)]
    rows = [network([array[at : at + 1].repeat(batch, axis=0) for array in inputs]) for at in range(len(inputs[0]))]
    return [np.concatenate([output[:1] for output in outputs]) for outputs in zip(*rows, strict=True)]


def open_batch(source: str, file: OnnxFile, inputs: list[NDArray[Any]], network: OnnxBackend) -> OnnxFile:
    """The file with an open batch axis, if it then answers several rows as it answers each of them alone.

    Args:
        source: names the file in errors.
        file: with a fixed number of rows.
        inputs: of the file, some rows that differ.
        network: the file as it is.

    Raises:
        ExportError: the number of rows is fixed inside the graph too.
    """
    wanted, problem = _run(network, file.batch, inputs), ""
    for reshapes in (False, True):
        opened = file.opened(reshapes)
        try:
            with silent():
                outputs = opened.load()(inputs)
        except (RuntimeError, ArtifactError) as error:
            problem = problem or f": {error}"
            continue
        if all(_alike(output, alone) for output, alone in zip(outputs, wanted, strict=True)):
            return opened
    raise ExportError(
        f"{source}: its batch size is fixed at {file.batch}, inside the graph too{problem}; "
        "export it with an open batch axis: torch.onnx.export(…, dynamic_axes={NAME: {0: 'rows'}, …})"
    )


def _alike(output: NDArray[Any], alone: NDArray[Any]) -> bool:
    """Whether two answers are the same but for rounding; the export compares them again, more exactly."""
    return output.shape == alone.shape and np.allclose(output, alone, rtol=1e-3, atol=1e-4)


def _any_rows(specs: ObservationSpec) -> dict[str, NDArray[Any]]:
    rng = np.random.default_rng(0)
    return {spec.name: spec.sample(rng, OPENED_ROWS) for spec in specs}


def _action(path: Path, draft: CardDraft) -> ActionCard:
    if draft.action is None:
        raise NoActionError(f"{path.name}: pass --card FILE with an action section: what its numbers mean is not in it")
    return complete(draft.action)


def _said(path: Path, draft: CardDraft) -> dict[str, FieldCard]:
    if draft.observation is None:
        raise CardError(f"{path.name}: pass --card FILE with its observation and action sections")
    return draft.observation


def _assumed(section: dict[str, FieldCard]) -> str:
    fields = ", ".join(f"{name} {field.dtype}{field.shape}" for name, field in section.items())
    return f"{fields}, as the file takes it; an observation section in the card gives it names and bounds of yours"
