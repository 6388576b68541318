"""Choices in an MLflow model: which types of whole numbers its signature takes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from without_pedals import KINDS

from carla_mlflow.contract.field_card import FieldCard, observation_spec

pytestmark = pytest.mark.filterwarnings("ignore")  # MLflow's own


@pytest.mark.parametrize(
    ("command", "gears"), [(np.int32(3), np.int32([1, 2])), (3.0, [1.0, 2.0]), (np.uint8(3), np.uint8([1, 2]))]
)
def test_choices_may_come_as_floats_and_as_small_whole_numbers(command: Any, gears: Any):
    from mlflow.models.utils import _enforce_schema  # here, since MLflow warns of it as it is imported

    from carla_mlflow.flavor.signature import signature_of

    section = {
        "command": FieldCard("uint8", [], 0, 5, choices=6),
        "gears": FieldCard("uint8", [2], 0, [2, 3], choices=[3, 4]),
    }
    inputs = signature_of(observation_spec(section), KINDS["labelled"].artifact().card.action).inputs
    taken = _enforce_schema(pd.DataFrame({"command": [command], "gears": [gears]}), inputs)
    assert (float(taken["command"][0]), list(taken["gears"][0])) == (3.0, [1.0, 2.0])
