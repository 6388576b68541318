"""Actions that are no pedals as an MLflow model: the columns of the signature, and their values."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest
from without_pedals import KINDS

from carla_mlflow.contract.field_card import observation_spec

pytestmark = pytest.mark.filterwarnings("ignore")  # MLflow's own

TYPES = {int: "long", str: "string", float: "float"}


@pytest.mark.parametrize("name", KINDS)
def test_the_model_gives_the_columns_of_its_signature(name: str, tmp_path: Path):
    from carla_mlflow.flavor.pyfunc_model import PolicyModel  # here, since MLflow warns of it as it is imported
    from carla_mlflow.flavor.signature import signature_of

    kind, model = KINDS[name], PolicyModel()
    model.load_context(SimpleNamespace(artifacts={"policy": kind.write(tmp_path)}))
    answer = model.predict(None, pd.DataFrame({"x": kind.rows}))
    assert answer.to_dict("list") == kind.columns
    card = kind.artifact().card
    outputs = signature_of(observation_spec(card.observation), card.action).outputs
    assert outputs.input_names() == list(kind.columns)
    assert [each.type.name for each in outputs] == [TYPES[type(v[0])] for v in kind.columns.values()]
