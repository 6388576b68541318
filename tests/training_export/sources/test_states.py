"""A torch module with a memory, as its author declares it: the card's section `state`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from sklearn.preprocessing import PolynomialFeatures, StandardScaler
from torch import nn

from benchmarks.policies.networks import FULL_BRAKE, UNIT
from carla_mlflow.contract.action_card import ActionCard
from carla_mlflow.contract.card_sections import StateCard
from carla_mlflow.contract.field_card import FieldCard, observation_spec
from carla_mlflow.errors import CardError, ExportError
from training_export.export.export import export_policy
from training_export.sources.draft import CardDraft
from training_export.sources.from_module import from_network
from training_export.sources.preprocessed import Preprocessed, preprocessed
from training_export.sources.source import SourceOptions, open_source

CODE = """
import torch
from torch import nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.cell = nn.GRUCell(3, 8)
        self.out = nn.Linear(8, 2)

    def forward(self, beams, memory):
        memory = self.cell(beams, memory)
        return torch.tanh(self.out(memory)), memory


def build():
    torch.manual_seed(0)
    return Net()
"""
CARD = """
observation: {beams: {dtype: float32, shape: [3], low: 0, high: 1}}
action: {head: deterministic, control: acceleration_steer, raw: {acceleration: [-1, 1], steer: [-1, 1]}}
"""
STATE = "state: {memory: {dtype: float32, shape: [8], initial: 0.5}}\n"
ACTION = ActionCard("deterministic", {"acceleration": UNIT, "steer": UNIT}, "acceleration_steer", 10.0, FULL_BRAKE)
SECTION = {"beams": FieldCard("float32", [3], 0.0, 1.0)}
MEMORY = {"memory": StateCard("float32", [8], 0.5)}


class Net(nn.Module):
    """Any number of features and a state → two actions and the next state."""

    def __init__(self, features: int) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.cell, self.out = nn.GRUCell(features, 8), nn.Linear(8, 2)

    def forward(self, features: torch.Tensor, memory: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        memory = self.cell(features, memory)
        return torch.tanh(self.out(memory)), memory


class OfDict(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.net = Net(3)

    def forward(self, seen: dict[str, torch.Tensor], memory: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return self.net(seen["beams"], memory)


@pytest.fixture
def policy(tmp_path: Path) -> Path:
    (tmp_path / "policy.py").write_text(CODE)
    return tmp_path


def options(folder: Path, card: str) -> SourceOptions:
    (folder / "card.yaml").write_text(card)
    return SourceOptions(f"{folder / 'policy.py'}:build", folder / "card.yaml")


def both_act_alike(export: Any) -> None:
    assert set(export.engines) >= {"torchscript", "onnx"}, export.left_out
    first, *others = export.engines.values()
    for other in others:
        np.testing.assert_allclose(*(e.act(e.golden.observations).raw for e in (first, other)), atol=1e-6)


def test_a_module_takes_its_states_after_the_observations_and_returns_the_next(policy: Path):
    trained = open_source(options(policy, CARD + STATE)).trained
    export = export_policy(trained, "memory", "0.1.0", "")
    card = export.artifact.card
    assert (card.format, card.states) == (2, MEMORY)
    assert card.parity.free_running >= card.parity.atol
    both_act_alike(export)


@pytest.mark.parametrize(
    ("state", "complaint"),
    [
        ("", "does not take the card's observations"),
        ("state: {memory: {dtype: float32, shape: [9]}}", "does not take the card's observations"),
        ("state: {beams: {dtype: float32, shape: [8]}}", "state.beams: beams and beams_next are names of the graph"),
        ("state: {memory: {dtype: float32, shape: [8], begin: 0}}", "begin"),
    ],
)
def test_a_section_that_does_not_fit_the_module_is_refused(policy: Path, state: str, complaint: str):
    with pytest.raises((ExportError, CardError), match=complaint):
        open_source(options(policy, CARD + state))


def test_a_module_that_returns_no_next_state_is_told_which_shapes_are_needed(policy: Path):
    (policy / "policy.py").write_text(CODE.replace("memory\n\n\ndef", "\n\n\ndef"))
    with pytest.raises(ExportError, match=r"the card's head needs raw \(B, 2\), memory_next \(B, 8\)"):
        open_source(options(policy, CARD + STATE))


def test_a_source_without_memory_refuses_a_section_state(example: Path, tmp_path: Path):
    (tmp_path / "model.onnx").write_bytes((example / "model.onnx").read_bytes())
    card = yaml.safe_load((example / "model_card.yaml").read_text())
    own = yaml.safe_dump({key: card[key] for key in ("observation", "action")}, sort_keys=False)
    (tmp_path / "card.yaml").write_text(own + STATE)
    with pytest.raises(ExportError, match="section `state` is not the policy's own: none"):
        open_source(SourceOptions(str(tmp_path / "model.onnx"), tmp_path / "card.yaml"))


def test_a_forward_that_takes_one_dict_of_the_observations_gets_the_states_after_it():
    trained = from_network("dict", OfDict().eval(), CardDraft(state=MEMORY), SECTION, ACTION, Preprocessed())
    both_act_alike(export_policy(trained, "memory", "0.1.0", ""))  # traced, as it can't be scripted


@pytest.mark.parametrize("kind", [StandardScaler, PolynomialFeatures])
def test_a_preprocessor_stands_before_the_network_and_the_states_pass_it_by(kind: type):
    rows = np.random.default_rng(0).uniform(0, 1, (50, 3))
    transformer = kind().fit(rows)
    width = transformer.transform(rows[:1]).shape[1]
    draft = CardDraft(state=MEMORY)
    prepared = preprocessed(transformer, observation_spec(SECTION))
    trained = from_network("scaled", Net(width).eval(), draft, SECTION, ACTION, prepared)
    export = export_policy(trained, "memory", "0.1.0", "")
    assert export.artifact.card.preprocessing.in_graph == (kind is StandardScaler)
    both_act_alike(export)


class Forgetful(nn.Module):
    """Answers by the features alone; `following` makes the next state of the features and the last one."""

    def __init__(self, following: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self.out, self.following = nn.Linear(3, 2), following

    def forward(self, beams: torch.Tensor, memory: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return torch.tanh(self.out(beams)), self.following(beams, memory)


@pytest.mark.parametrize(
    "following",
    [lambda seen, memory: memory, lambda seen, memory: 0.0 * memory, lambda seen, memory: memory + seen[:, :1]],
    ids=["never changed", "always zeros", "kept and not read"],
)
def test_a_network_that_does_not_use_its_memory_is_refused_with_the_remedy(
    following: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
):
    network = Forgetful(following).eval()
    trained = from_network("forgetful", network, CardDraft(state=MEMORY), SECTION, ACTION, Preprocessed())
    with pytest.raises(ExportError, match=r"does not use its memory: .* Leave `state` out of the card"):
        export_policy(trained, "forgetful", "0.1.0", "")
