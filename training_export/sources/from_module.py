"""The user's own torch module and its author's card → a TrainedPolicy."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from carla_mlflow.artifact.golden import Golden
from carla_mlflow.contract.action_card import ActionCard
from carla_mlflow.contract.card_sections import StateCard
from carla_mlflow.contract.field_card import FieldCard, observation_spec
from carla_mlflow.contract.heads import PARAMETERS
from carla_mlflow.contract.memory import graph_inputs, graph_outputs
from carla_mlflow.errors import ExportError
from training_export.graphs.graph import PolicyGraph, script_network
from training_export.sources.draft import CardDraft, complete, states_of
from training_export.sources.file_inputs import seen_by_module
from training_export.sources.importing import make_importable, missing_code
from training_export.sources.observation_spaces import observation_of_space, parts_of, with_sources
from training_export.sources.preprocessed import Behind, Prepare, Preprocessed, no_preprocessor
from training_export.sources.seen import of_rows, of_scaler, with_seen
from training_export.sources.spaces import action_of_space
from training_export.sources.trained import Arrays, TrainedPolicy, begun, golden_of, without_memory

Built = tuple[nn.Module, Any, Any]


def from_module(
    target: str, draft: CardDraft, prepare: Prepare = no_preprocessor, driving: Arrays | None = None
) -> TrainedPolicy:
    """Reads the policy from `package.module:build` or `path/to/file.py:build`.

    build() returns a torch module, or the module with its gymnasium observation space and action space. The module
    takes the named observations in the card's order (with a preprocessor: its features), choices as the whole numbers
    that the environment gives, since only the module knows whether it embeds them. It returns the head's parameters:
    for `deterministic` the raw action, for `gaussian` mean and standard deviation, and so on. With a section `state` in
    the card it takes these states after the observations, each (B, *shape), and returns their next values after the
    parameters; where an episode begins it gets the card's `initial`.

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
    specs, states = observation_spec(section), states_of(draft, section, action)
    scaled = of_scaler(prepared.transformer, specs) if prepared.transformer else seen_by_module(module, specs)
    section = with_seen(section, scaled, of_rows(driving or {}))
    specs = observation_spec(section)
    example = graph_inputs(specs, states).example(3)
    if prepared.transformer is None:
        names = tuple(spec.origin for spec in specs)
        module = _taking(module, names, [example[name] for name in specs.names] + begun(example, states))

    def inputs_of(inputs: Arrays) -> tuple[list[NDArray[Any]], NDArray[np.float32] | None]:
        given, features = prepared.inputs(specs, without_memory(inputs, states))
        return [*given, *begun(inputs, states)], features

    def answer(inputs: Arrays) -> Golden:
        given, features = inputs_of(inputs)
        outputs = _run(source, module, given, needed_outputs(action, states))
        return golden_of(action, inputs, outputs, features, states)

    answer(example)  # refuses a module that doesn't fit its card before anything is exported
    scripted = script_network(module, tuple(torch.from_numpy(array.copy()) for array in inputs_of(example)[0]))
    return TrainedPolicy(
        graph=PolicyGraph(prepared.before(module, len(states)), action, states),
        observation=section,
        action=action,
        answer=answer,
        driving=driving,
        preprocessor=prepared.data,
        features=prepared.features(specs),
        trusted=prepared.trusted,
        scripted=None if scripted is None else PolicyGraph(prepared.before(scripted, len(states)), action, states),
        training=draft.training,
        states=states,
    )


class FromDict(nn.Module):
    """Passes observations, by their names in training, to a network whose forward takes a dict of them, and states."""

    def __init__(self, network: nn.Module, names: tuple[str, ...]) -> None:
        super().__init__()
        self.network = network
        self.names = names

    def forward(self, *inputs: torch.Tensor) -> Any:
        observed = len(self.names)
        return self.network(dict(zip(self.names, inputs[:observed], strict=True)), *inputs[observed:])


def _taking(module: nn.Module, names: tuple[str, ...], example: list[NDArray[Any]]) -> nn.Module:
    """The network as one that takes the observations one by one, whether its forward does, or a dict, or one vector.

    Args:
        module: the author's.
        names: of the observations.
        example: a batch of each observation, then of each state.
    """
    ways = (module, FromDict(module, names), Behind(nn.Identity(), module, len(example) - len(names)))
    return next((way for way in ways if _runs(way, example)), module)  # `_run` then reports what the first one raises


def _runs(module: nn.Module, example: list[NDArray[Any]]) -> bool:
    with torch.no_grad():
        try:
            module(*(torch.from_numpy(array.copy()) for array in example))
        except Exception:  # the author's code may raise anything
            return False
    return True


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())[:300]


def needed_outputs(action: ActionCard, states: Mapping[str, StateCard]) -> dict[str, tuple[int, ...]]:
    """What the network returns: name → shape without the batch axis."""
    outputs = graph_outputs(action, states)
    return {name: shape for name, shape in outputs.items() if name != "raw" or not PARAMETERS[action.head]}


def _run(
    source: str, module: nn.Module, inputs: list[NDArray[Any]], outputs: dict[str, tuple[int, ...]]
) -> list[NDArray[np.float32]]:
    try:
        with torch.no_grad():
            returned = module(*(torch.from_numpy(array.copy()) for array in inputs))
    except Exception as error:  # the author's code may raise anything
        raise ExportError(
            f"{source}: does not take the card's observations: {type(error).__name__}: {_line(error)}; forward() gets "
            "one tensor per observation, batch axis first, in the card's order, or one dict of them by name, or all of "
            "them as one tensor of rows; with a preprocessor, it gets one tensor of features; the card's states follow"
        ) from error
    returned = returned if isinstance(returned, tuple) else (returned,)
    if not all(isinstance(output, torch.Tensor) for output in returned):
        kinds = ", ".join(type(output).__name__ for output in returned)
        raise ExportError(f"{source}: returns {kinds}; expected a tensor, or a tuple of tensors in the head's order")
    check_shapes([tuple(output.shape) for output in returned], outputs)
    return [output.detach().numpy().astype(np.float32) for output in returned]


def check_shapes(shapes: list[tuple[int, ...]], outputs: dict[str, tuple[int, ...]]) -> None:
    """Raises ExportError unless a network's outputs, of these shapes with rows, are those of `needed_outputs`."""
    if [shape[1:] for shape in shapes] != list(outputs.values()):
        needed = ", ".join(f"{name} ({', '.join(map(str, ('B', *shape)))})" for name, shape in outputs.items())
        raise ExportError(f"the network returns shapes {shapes}; the card's head needs {needed}")


def _build(target: str) -> Built:
    where, _, name = target.rpartition(":")
    if where.endswith(".py") and not Path(where).is_file():
        raise ExportError(f"{target}: there is no file {where}")
    try:
        code = import_code(where)
        if not name or not hasattr(code, name):
            lacks = f"has no {name}" if name else "is a file"
            raise ExportError(f"{target}: {where} {lacks}; expected a function in it that returns a torch module")
        built = getattr(code, name)()
    except ExportError:
        raise
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
