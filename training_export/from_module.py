"""A torch module of the user's own, and what its author says of it → a TrainedPolicy."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import torch
from torch import nn

from carla_mlflow.card import check_action, read_section, read_yaml
from carla_mlflow.card_sections import ActionCard, FieldCard, observation_spec
from carla_mlflow.errors import CardError, ExportError
from carla_mlflow.golden import Golden
from carla_mlflow.heads import PARAMETERS
from training_export.graph import PolicyGraph, script_network
from training_export.trained import Arrays, TrainedPolicy, control_of


class CardDraft(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the author of a policy says of it: the sections of the card that can't be measured."""

    observation: dict[str, FieldCard]
    action: ActionCard
    name: str = "carla-policy"
    version: str = "0.1.0"
    description: str = ""
    training: dict[str, Any] = {}


def read_draft(path: Path) -> CardDraft:
    """Reads a card's authored sections from YAML.

    Raises:
        CardError: what is wrong, where.
    """
    try:
        draft = read_section(read_yaml(path.read_bytes()), CardDraft)
    except OSError as error:
        raise CardError(f"{path}: {error.strerror}") from error
    problems = check_action(draft.action)
    if problems:
        raise CardError(f"{path}: " + "; ".join(problems))
    observation_spec(draft.observation)
    return draft


def from_module(target: str, draft: CardDraft, driving: Arrays | None) -> TrainedPolicy:
    """`package.module:build` or `path/to/file.py:build`, where build() returns a torch module.

    The module takes the named observations in the card's order and returns the head's parameters: for
    `deterministic` the raw action, for `gaussian` mean and standard deviation, each (B, A).

    Raises:
        ExportError: it can't be imported, built, scripted, or returns something else.
    """
    module = _build(target)
    specs = observation_spec(draft.observation)
    names = ("raw",) if draft.action.head == "deterministic" else PARAMETERS[draft.action.head]

    def answer(observations: Arrays) -> Golden:
        try:
            with torch.no_grad():
                outputs = module(*(torch.from_numpy(observations[name].copy()) for name in specs.names))
        except Exception as error:  # the author's code may raise anything
            raise ExportError(f"{target}: does not take the card's observations: {error}") from error
        outputs = outputs if isinstance(outputs, tuple) else (outputs,)
        _check_outputs(outputs, names, len(draft.action.raw))
        parameters = {n: output.numpy().astype(np.float32) for n, output in zip(names, outputs, strict=True)}
        low, high = np.array(list(draft.action.raw.values()), dtype=np.float32).T
        raw = np.clip(parameters[names[0]], low, high)
        distribution = {} if draft.action.head == "deterministic" else parameters
        return Golden(dict(observations), raw, distribution, control_of(draft.action, raw))

    answer(specs.example(2))  # a module that doesn't fit its card is said so before anything is scripted
    return TrainedPolicy(
        graph=PolicyGraph(script_network(module), draft.action),
        observation=draft.observation,
        action=draft.action,
        answer=answer,
        driving=driving,
        training=draft.training,
    )


def _check_outputs(outputs: tuple[Any, ...], names: tuple[str, ...], width: int) -> None:
    shapes = [tuple(getattr(output, "shape", ())) for output in outputs]
    if len(outputs) != len(names) or any(shape[1:] != (width,) for shape in shapes):
        raise ExportError(
            f"the network returns shapes {shapes}; the card's head needs {', '.join(names)}, each (B, {width})"
        )


def _build(target: str) -> nn.Module:
    where, _, name = target.rpartition(":")
    try:
        built = getattr(_import(where), name)()
    except Exception as error:  # the author's code may raise anything
        raise ExportError(f"{target}: {type(error).__name__}: {error}") from error
    if not isinstance(built, nn.Module):
        raise ExportError(f"{target}: expected a torch module, got {type(built).__name__}")
    return built.eval()


def _import(where: str) -> Any:
    if not where.endswith(".py"):
        sys.path.insert(0, "")
        return importlib.import_module(where)
    spec = importlib.util.spec_from_file_location(Path(where).stem, where)
    if spec is None or spec.loader is None or not Path(where).is_file():
        raise FileNotFoundError(f"no file {where}")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # where torch.jit.script looks the source up
    spec.loader.exec_module(module)
    return module
