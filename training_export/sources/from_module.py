"""The user's own torch module and its author's card → a TrainedPolicy."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from carla_mlflow.artifact.golden import Golden
from carla_mlflow.contract.card_sections import ActionCard, FieldCard, observation_spec
from carla_mlflow.errors import ExportError
from training_export.graphs.graph import PolicyGraph, script_network
from training_export.sources.draft import CardDraft, complete
from training_export.sources.importing import make_importable, missing_code
from training_export.sources.observation_spaces import observation_of_space, parts_of, with_sources
from training_export.sources.preprocessed import Prepare, Preprocessed, no_preprocessor
from training_export.sources.seen import of_rows, of_scaler, with_seen
from training_export.sources.spaces import action_of_space
from training_export.sources.trained import Arrays, TrainedPolicy, golden_of

Built = tuple[nn.Module, Any, Any]


def from_module(
    target: str, draft: CardDraft, prepare: Prepare = no_preprocessor, driving: Arrays | None = None
) -> TrainedPolicy:
    """Reads the policy from `package.module:build` or `path/to/file.py:build`.

    build() returns a torch module, or the module with its gymnasium observation space and action space. The module
    takes the named observations in the card's order (with a preprocessor: its features) and returns the head's
    parameters: for `deterministic` the raw action, for `gaussian` mean and standard deviation, and so on.

    Raises:
        ExportError: it can't be imported or built, or returns something else than the head needs.
        CardError: card and spaces are incomplete, or contradict each other.
    """
    module, observation_space, action_space = _build(target)
    section = draft.observation or observation_of_space(observation_space)
    if observation_space is not None:
        section = with_sources(section, parts_of(observation_space))
    head, bounds, names = action_of_space(action_space)
    action = complete(names(draft.action), head, bounds)
    prepared = prepare(observation_spec(section))
    return from_network(target, module, draft, section, action, prepared, driving)


def from_network(
    source: str,
    module: nn.Module,
    draft: CardDraft,
    section: dict[str, FieldCard],
    action: ActionCard,
    prepared: Preprocessed,
    driving: Arrays | None = None,
) -> TrainedPolicy:
    """A module whose card is complete → a TrainedPolicy; `source` names it in errors."""
    specs = observation_spec(section)
    section = with_seen(section, of_scaler(prepared.transformer, specs), of_rows(driving or {}))
    specs = observation_spec(section)
    example = specs.example(3)
    if prepared.transformer is None and _takes_dict(module, example):
        module = FromDict(module, specs.names)

    def answer(observations: Arrays) -> Golden:
        inputs, features = prepared.inputs(specs, observations)
        return golden_of(action, observations, _run(source, module, inputs, action.outputs()), features)

    answer(example)  # refuses a module that doesn't fit its card before anything is exported
    inputs = tuple(torch.from_numpy(array.copy()) for array in prepared.inputs(specs, example)[0])
    scripted = script_network(module, inputs)
    return TrainedPolicy(
        graph=PolicyGraph(prepared.before(module), action),
        observation=section,
        action=action,
        answer=answer,
        driving=driving,
        preprocessor=prepared.data,
        features=prepared.features(specs),
        trusted=prepared.trusted,
        scripted=None if scripted is None else PolicyGraph(prepared.before(scripted), action),
        training=draft.training,
    )


class FromDict(nn.Module):
    """Passes named observations to a network whose forward takes one dict of them."""

    def __init__(self, network: nn.Module, names: tuple[str, ...]) -> None:
        super().__init__()
        self.network = network
        self.names = names

    def forward(self, *observations: torch.Tensor) -> Any:
        return self.network(dict(zip(self.names, observations, strict=True)))


def _takes_dict(module: nn.Module, example: Arrays) -> bool:
    tensors = {name: torch.from_numpy(array.copy()) for name, array in example.items()}
    with torch.no_grad():
        try:
            module(*tensors.values())
        except Exception:  # the author's code may raise anything; `_run` reports it
            try:
                module(tensors)
            except Exception:
                return False
            return True
    return False


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())[:300]


def _run(
    source: str, module: nn.Module, inputs: list[NDArray[Any]], outputs: dict[str, int]
) -> list[NDArray[np.float32]]:
    try:
        with torch.no_grad():
            returned = module(*(torch.from_numpy(array.copy()) for array in inputs))
    except Exception as error:  # the author's code may raise anything
        raise ExportError(
            f"{source}: does not take the card's observations: {type(error).__name__}: {_line(error)}; forward() gets "
            "one tensor per observation, batch axis first, in the card's order, or one dict of them by name; with a "
            "preprocessor, it gets one tensor of features"
        ) from error
    returned = returned if isinstance(returned, tuple) else (returned,)
    wanted = {name: width for name, width in outputs.items() if name != "raw"} or {"raw": outputs["raw"]}
    if not all(isinstance(output, torch.Tensor) for output in returned):
        kinds = ", ".join(type(output).__name__ for output in returned)
        raise ExportError(f"{source}: returns {kinds}; expected a tensor, or a tuple of tensors in the head's order")
    shapes = [tuple(output.shape) for output in returned]
    if [shape[1:] for shape in shapes] != [(width,) for width in wanted.values()]:
        needed = ", ".join(f"{name} (B, {width})" for name, width in wanted.items())
        raise ExportError(f"the network returns shapes {shapes}; the card's head needs {needed}")
    return [output.numpy().astype(np.float32) for output in returned]


def _build(target: str) -> Built:
    where, _, name = target.rpartition(":")
    try:
        built = getattr(import_code(where), name)()
    except (Exception, SystemExit) as error:  # the author's code may raise anything
        raise ExportError(f"{target}: {type(error).__name__}: {error}{missing_code(error)}") from error
    parts = built if isinstance(built, tuple) else (built, None, None)
    if len(parts) != 3 or not isinstance(parts[0], nn.Module):
        raise ExportError(
            f"{target}: expected a torch module, or module, observation space and action space; got "
            + ", ".join(type(part).__name__ for part in parts)
        )
    return parts[0].eval(), parts[1], parts[2]


def import_code(where: str) -> Any:
    """Imports `path/to/file.py`, or a module by its name; raises whatever its code raises."""
    if not where.endswith(".py"):
        make_importable()
        return importlib.import_module(where)
    path = Path(where)
    # A name that no package has: as `onnx`, the author's onnx.py would replace the package.
    spec = importlib.util.spec_from_file_location(f"policy_file_{path.stem}", where)
    if spec is None or spec.loader is None or not path.is_file():
        raise FileNotFoundError(f"no file {where}")
    make_importable(path.parent)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # where torch.jit.script looks the source up
    spec.loader.exec_module(module)
    return module
