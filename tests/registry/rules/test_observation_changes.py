"""What a field of an observation means is depended on, as its type and bounds are."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from msgspec.structs import replace

from carla_mlflow import Artifact
from carla_mlflow.contract.card import Card
from carla_mlflow.contract.field_card import FieldCard
from registry.checks.comparison import act_alike, compare
from registry.rules.changes import contract_changes, other_changes
from training_export.export.export import export_policy
from training_export.sources.draft import ActionDraft, CardDraft, complete
from training_export.sources.from_module import from_network
from training_export.sources.preprocessed import Preprocessed


class Total(torch.nn.Module):
    """Steers by the sum of what it sees, (B, 2)."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.tensor(0.1))

    def forward(self, x: torch.Tensor, gear: torch.Tensor) -> torch.Tensor:
        return ((x.sum(1) + gear) * self.weight)[:, None]


def policy(**gear: Any) -> Artifact:
    section = {"x": FieldCard("float32", [2], -1.0, 1.0), "gear": FieldCard("float32", [], 0.0, 5.0, **gear)}
    action = complete(ActionDraft("steer", {"steer": (-1.0, 1.0)}, head="deterministic"))
    trained = from_network("toy", Total().eval(), CardDraft(), section, action, Preprocessed())
    return export_policy(trained, "toy", "1.0.0", "").artifact


@pytest.fixture(scope="module")
def quantities() -> Artifact:
    return policy()


def with_gear(card: Card, **parts: Any) -> Card:
    return replace(card, observation={**card.observation, "gear": replace(card.observation["gear"], **parts)})


@pytest.mark.parametrize(
    ("parts", "words"),
    [
        ({"choices": 6}, "observation.gear.choices: none → 6"),
        ({"source": "car.gear"}, "observation.gear.source: none → car.gear"),
    ],
)
def test_choices_and_sources_that_come_or_go_change_the_contract(
    quantities: Artifact, parts: dict[str, Any], words: str
):
    other = with_gear(quantities.card, **parts)
    assert [str(change) for change in contract_changes(quantities.card, other)] == [words]
    assert len(contract_changes(other, quantities.card)) == 1
    assert other.contract != quantities.card.contract


def test_another_unit_is_a_change_of_the_contract_though_the_hash_has_no_units(quantities: Artifact):
    other = with_gear(quantities.card, unit="km/h")
    [change] = contract_changes(quantities.card, other)
    assert str(change) == "observation.gear.unit: 1 → km/h"
    assert other_changes(quantities.card, other) == []
    assert other.contract == quantities.card.contract


def test_policies_are_compared_although_one_takes_whole_numbers_only(quantities: Artifact):
    choosing = policy(choices=6)
    assert not act_alike(quantities, choosing)
    for pair in ((quantities, choosing), (choosing, quantities)):
        assert (compare(*pair).step, compare(*pair).actions) == ("major", [])
