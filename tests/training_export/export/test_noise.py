"""How far an exported graph may be from the trained policy: as far as that is from itself, and no farther."""

from __future__ import annotations

import copy
import functools
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tests_support import command_here

from carla_mlflow import open_artifact
from carla_mlflow.contract.action_card import Control
from carla_mlflow.contract.card_sections import Parity
from carla_mlflow.contract.field_card import FieldCard, observation_spec
from carla_mlflow.errors import CardError, ExportError
from training_export.export.export import Export, export_policy
from training_export.export.noise import InFloat64, measure_noise
from training_export.sources.draft import ActionDraft, CardDraft, complete, read_draft
from training_export.sources.from_module import from_network
from training_export.sources.preprocessed import Preprocessed
from training_export.sources.trained import TrainedPolicy

SEEN = {"seen": FieldCard("float32", [4], -1.0, 1.0)}
PEDALS = complete(ActionDraft("acceleration_steer", {"acceleration": (-1, 1), "steer": (-1, 1)}, "deterministic"))
CHOICE = complete(ActionDraft("table", head="categorical", table=[Control(1, 0, 0), Control(0, 1, 0)]))


class Loses(torch.nn.Module):
    """A sum of large terms that cancel each other but for what counts, so that float32 keeps few of its digits."""

    def __init__(self, size: float) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.last = torch.nn.Linear(4, 256), torch.nn.Linear(512, 2)
        with torch.no_grad():
            small = torch.randn(2, 256) / 256
            large = torch.randn(2, 256) * size
            self.last.weight.copy_(torch.cat([large + small, -large], dim=1))

    def forward(self, seen: torch.Tensor) -> torch.Tensor:
        hidden = torch.tanh(self.first(seen))
        return self.last(torch.cat([hidden, hidden], dim=1))


class Ties(torch.nn.Module):
    """Two choices that differ by rounding only, where the first number seen is below `edge`."""

    def __init__(self, edge: float) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.layer = torch.nn.Linear(4, 64)
        self.edge = edge

    def forward(self, seen: torch.Tensor) -> torch.Tensor:
        hidden = torch.tanh(self.layer(seen))
        one, other = hidden.sum(dim=1), hidden[:, :20].sum(dim=1) + hidden[:, 20:].sum(dim=1)
        return torch.stack([one, other + torch.where(seen[:, 0] < self.edge, 0.0, 1.0)], dim=1)


def trained(network: torch.nn.Module, action=PEDALS) -> TrainedPolicy:
    return from_network("test", network.eval(), CardDraft(), SEEN, action, Preprocessed())


@functools.cache
def noisy() -> tuple[TrainedPolicy, Export]:
    policy = trained(Loses(3.0))
    return policy, export_policy(policy, "noisy", "1.0.0", "")


def test_a_quiet_policy_is_held_to_the_least_tolerance():
    exported = export_policy(trained(Loses(0.0)), "quiet", "1.0.0", "")
    assert exported.artifact.card.parity == Parity()
    assert exported.artifact.card.format == 1


def test_a_policy_that_differs_from_itself_is_exported_twice_within_four_times_its_noise():
    policy, exported = noisy()
    noise, parity = exported.reference.noise.largest, exported.artifact.card.parity
    assert set(exported.engines) >= {"torchscript", "onnx"}, exported.left_out
    assert noise > 2.5e-6
    assert parity.rtol == Parity().rtol
    assert 4 * noise - parity.rtol <= parity.atol <= min(4 * noise * 1.1, 1e-3)
    specs = observation_spec(SEEN)
    batch = {"seen": specs[0].sample(np.random.default_rng(0), 200)}
    alone = np.concatenate([policy.answer({"seen": row[None]}).raw for row in batch["seen"]])
    with InFloat64():
        exact = policy.answer(batch).raw
    measured = measure_noise(policy, specs, batch).largest
    assert measured == max(np.abs(policy.answer(batch).raw - other).max() for other in (alone, exact))


def test_a_graph_that_is_wrong_by_more_than_noise_is_refused():
    policy, exported = noisy()
    tolerance = exported.artifact.card.parity.atol
    other = copy.deepcopy(policy.graph)
    with torch.no_grad():
        other.network.last.bias.add_(3 * tolerance)
    with pytest.raises(ExportError, match=r"model\.pt: .*does not act as the trained policy.*model\.onnx"):
        export_policy(replace(policy, graph=other, scripted=None), "wrong", "1.0.0", "")


def test_rows_whose_best_two_choices_are_nearer_than_rounding_moves_them_are_not_compared():
    exported = export_policy(trained(Ties(0.0), CHOICE), "ties", "1.0.0", "")
    assert set(exported.engines) >= {"torchscript", "onnx"}, exported.left_out
    assert exported.reference.left_out + exported.rows == 1024
    assert 300 < exported.reference.left_out < 700
    golden = exported.engine.golden
    assert len(golden.raw) == 64
    assert (golden.observations["seen"][:, 0] >= 0).all()


def test_what_only_the_choice_is_made_by_leaves_the_tolerance_of_the_artifact_alone():
    network = Ties(0.0).eval()

    class Best(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = network

        def forward(self, seen: torch.Tensor) -> torch.Tensor:
            return (1000.0 * self.network(seen)).argmax(dim=1, keepdim=True).to(torch.float32)

    def values(batch):
        with torch.no_grad():
            return (1000.0 * network(torch.from_numpy(batch["seen"]))).numpy()

    table = complete(ActionDraft("table", head="deterministic", table=[Control(1, 0, 0), Control(0, 1, 0)]))
    exported = export_policy(replace(trained(Best(), table), values=values), "chooses", "1.0.0", "")
    assert exported.artifact.card.parity == Parity()
    assert exported.reference.noise.largest > 1e-5
    assert 300 < exported.reference.left_out < 700


def test_a_policy_that_decides_by_chance_is_refused():
    with pytest.raises(ExportError, match=r"in only \d+ of 1,024 observations: .* Check that it was trained"):
        export_policy(trained(Ties(2.0), CHOICE), "ties", "1.0.0", "")


@pytest.mark.parametrize("make", [torch.jit.script, lambda n: torch.jit.trace(n, torch.zeros(3, 4))])
def test_scripts_too_are_computed_in_float64(make):
    network = Loses(3.0).eval().requires_grad_(False)
    script, seen = make(network), torch.rand(50, 4)
    exact = copy.deepcopy(network).double()(seen.double())
    with InFloat64():
        found = script(seen)
    assert (script(seen) != exact).any()
    np.testing.assert_allclose(found, exact, rtol=1e-12, atol=1e-12)


MODULE = """
import torch
def build():
    torch.manual_seed(0)
    return torch.nn.Linear(4, 2)
"""
CARD = """
observation: {seen: {dtype: float32, shape: [4], low: -1, high: 1}}
action: {head: deterministic, control: acceleration_steer, raw: {acceleration: [-1, 1], steer: [-1, 1]}}
"""


def test_an_author_may_state_a_tolerance_and_is_told_what_it_means(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    Path("mine.py").write_text(MODULE)
    Path("card.yaml").write_text(CARD + "parity: {atol: 2.0e-4}\n")
    done = command_here("carla-export", "mine.py:build", "--card", "card.yaml", "--output", "mine")
    assert done.code == 0, done.err
    assert "tolerance 2.0e-04 + 1e-05 · |value|, as the card states: how far throttle, brake, steer" in done.out
    assert open_artifact(Path("mine")).card.parity == Parity(atol=2e-4)
    Path("card.yaml").write_text(CARD + "parity: {atol: 0.01}\n")
    with pytest.raises(CardError, match=r"card\.yaml: parity: atol and rtol must lie in \[0, 0\.001\]"):
        read_draft(Path("card.yaml"))
