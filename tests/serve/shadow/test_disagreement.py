"""When two actions disagree, and when they only differ."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest

from carla_mlflow import Artifact
from carla_mlflow.contract.action_card import ActionCard
from serve.shadow.disagreement import disagreements


def rows(*values: tuple[float, ...]) -> np.ndarray:
    return np.array(values, dtype=np.float32)


@pytest.mark.parametrize(
    ("mine", "theirs", "disagree"),
    [
        ((0.5, 0.0, 0.0), (0.0, 0.5, 0.0), True),  # one brakes and the other accelerates
        ((0.04, 0.0, 0.0), (0.0, 0.04, 0.0), False),  # both are coasting
        ((0.2, 0.0, 0.0), (1.0, 0.0, 0.0), False),  # both accelerate
        ((0.5, 0.0, 0.0), (0.5, 0.0, 0.19), False),
        ((0.5, 0.0, -0.1), (0.5, 0.0, 0.11), True),  # steer is more than 0.2 apart
    ],
)
def test_pedals_against_each_other_disagree_and_steer_that_is_far_apart(
    champion: Artifact, mine: tuple[float, ...], theirs: tuple[float, ...], disagree: bool
):
    action = champion.card.action
    assert disagreements(action, rows(mine), rows(theirs)).tolist() == [disagree]
    assert disagreements(action, rows(theirs), rows(mine)).tolist() == [disagree]


def test_every_other_choice_disagrees(champion: Artifact):
    named: ActionCard = msgspec.structs.replace(
        champion.card.action,
        head="multi_categorical",
        raw={"gear": (0.0, 3.0), "lane": (0.0, 2.0)},
        control="named",
        fallback={"gear": 0.0, "lane": 1.0},
    )
    found = disagreements(named, rows((0, 1), (0, 1), (3, 2)), rows((0, 1), (0, 2), (2, 2)))
    assert found.tolist() == [False, True, True]


def test_a_value_of_ones_own_disagrees_by_more_than_a_tenth_of_its_span(champion: Artifact):
    named: ActionCard = msgspec.structs.replace(
        champion.card.action, raw={"speed": (0.0, 50.0)}, control="named", fallback={"speed": 0.0}
    )
    assert disagreements(named, rows((10,), (10,)), rows((15,), (15.5,))).tolist() == [False, True]
