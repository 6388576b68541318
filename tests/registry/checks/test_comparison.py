"""Two policies side by side: of policies with a memory, what they remember counts."""

from __future__ import annotations

import functools

import numpy as np
import torch

from benchmarks.policies.networks import FULL_BRAKE
from benchmarks.policies.remembering import PEDALS, SECTION, Lstm
from carla_mlflow import Artifact
from carla_mlflow.contract.action_card import ActionCard
from carla_mlflow.contract.card_sections import StateCard
from carla_mlflow.inference.rollouts import act_freely
from registry.checks.comparison import compare
from training_export.export.export import Export, export_policy
from training_export.sources.draft import CardDraft
from training_export.sources.from_module import from_network
from training_export.sources.preprocessed import Preprocessed


@functools.cache
def lstm_of(version: str, hidden: int = 8, recurrent: float | None = None) -> Export:
    """Networks of one size differ in their recurrent weights alone."""
    torch.manual_seed(11)
    network = Lstm(hidden).eval()
    if recurrent is not None:
        with torch.no_grad():
            network.cell.weight_hh.copy_(recurrent * torch.randn_like(network.cell.weight_hh))
    states = {name: StateCard("float32", [hidden]) for name in ("h", "c")}
    action = ActionCard("gaussian", PEDALS, "acceleration_steer", 10.0, FULL_BRAKE)
    trained = from_network("lstm", network, CardDraft(state=states), SECTION, action, Preprocessed())
    return export_policy(trained, "lstm", version, "an LSTM")


def largest(old: Artifact, new: Artifact) -> list[float]:
    return [max(difference.largest.values()) for difference in compare(old, new).actions]


def test_other_recurrent_weights_make_other_actions():
    one, two = lstm_of("1.0.0"), lstm_of("1.1.0", recurrent=3.0)
    found = compare(one.artifact, two.artifact)
    assert found.step == "minor"
    assert [difference.observations for difference in found.actions] == [
        "128 golden observations of 1.0.0",
        "128 golden observations of 1.1.0",
    ]
    for difference, export in zip(found.actions, (one, two), strict=True):
        sides = [np.stack([a.control for a in act_freely(e.engine.act, export.engine.golden)]) for e in (one, two)]
        wanted = np.abs(sides[0].astype(np.float64) - sides[1]).max(axis=(0, 1))
        assert list(difference.largest.values()) == wanted.tolist()
        assert wanted.max() > 0.1
    assert largest(one.artifact, one.artifact) == [0.0, 0.0]


def test_states_of_two_sizes_are_no_obstacle():
    wider = largest(lstm_of("1.0.0").artifact, lstm_of("1.1.0", hidden=12).artifact)
    assert len(wider) == 2
    assert min(wider) > 0.01
