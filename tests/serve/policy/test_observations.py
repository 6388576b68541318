"""Choices, and names that are no identifiers, through every protocol: the wire has whole numbers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import pytest
import torch
from gymnasium import spaces
from tests_support import Server
from torch import nn

from carla_mlflow import Artifact, Engine, PolicyClient, write_artifact
from carla_mlflow.contract.action_card import ActionCard, Control
from carla_mlflow.flavor.model import log_policy
from carla_mlflow.flavor.runs import logging_run
from training_export.export.export import export_policy
from training_export.sources.draft import CardDraft
from training_export.sources.from_module import from_network
from training_export.sources.observation_spaces import observation_of_space
from training_export.sources.preprocessed import Preprocessed

SPACE = spaces.Dict(
    {
        "command": spaces.Discrete(6),
        "grid-front": spaces.Box(np.float32([[0, -1], [2, 3]]), np.float32([[1, 1], [4, 9]])),
        "place": spaces.Discrete(500),
        "rows": spaces.MultiDiscrete([3, 2]),
    }
)
FLAT = spaces.Dict({name: part for name, part in SPACE.spaces.items() if name != "grid-front"})
ACTION = ActionCard(
    "deterministic", {"acceleration": (-1, 1), "steer": (-1, 1)}, "acceleration_steer", 10, Control(0, 1, 0)
)


class Embeds(nn.Module):
    """Takes choices as whole numbers."""

    def __init__(self, has_grid: bool) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.command, self.place, self.rows = nn.Embedding(6, 2), nn.Embedding(500, 2), nn.Embedding(3, 2)
        self.grid = nn.Linear(4, 2) if has_grid else None

    def forward(self, *given: torch.Tensor) -> torch.Tensor:
        command, *grid, place, rows = given
        seen = self.command(command.long()) + self.place(place.long()) + self.rows(rows.long()).sum(dim=1)
        return seen if self.grid is None else seen + self.grid(grid[0].flatten(1))


@pytest.fixture(scope="module", params=["flat", "with a grid"])
def artifact(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    has_grid = request.param == "with a grid"
    section = observation_of_space(SPACE if has_grid else FLAT)
    trained = from_network("embeds", Embeds(has_grid).eval(), CardDraft(), section, ACTION, Preprocessed())
    exported = export_policy(trained, "embeds", "1.0.0", "")
    assert set(exported.engines) >= {"torchscript", "onnx"}, exported.left_out
    return write_artifact(tmp_path_factory.mktemp("embeds") / "embeds", exported.artifact)


def columns(values: dict[str, np.ndarray]) -> dict[str, Any]:
    return {name: array[:5] for name, array in values.items()}


@pytest.mark.filterwarnings("ignore")  # MLflow's own
def test_every_protocol_takes_choices_as_whole_numbers(
    start_server: Callable[..., Server], artifact: Artifact, mlflow_home: Path
):
    engine = Engine(artifact, "cpu")
    golden = columns(engine.golden.observations)
    expected = np.ascontiguousarray(engine.act(golden).control)
    assert engine.act([{n: a[row].tolist() for n, a in golden.items()} for row in range(5)]).control.tobytes() == (
        expected.tobytes()
    )
    server = start_server("--model", str(artifact.path))
    server.wait_ready()
    rows = [{name: array[row].tolist() for name, array in golden.items()} for row in range(5)]
    actions = server.post("/predict", {"observations": rows}).json["actions"]
    assert np.float32([list(action.values()) for action in actions]).tobytes() == expected.tobytes()
    with PolicyClient(server.url) as client:
        assert np.ascontiguousarray(client.act(golden).control).tobytes() == expected.tobytes()
    types = {"uint8": "UINT8", "float32": "FP32"}
    inputs = [
        {"name": name, "datatype": types[str(array.dtype)], "shape": list(array.shape), "data": array.ravel().tolist()}
        for name, array in golden.items()
    ]
    outputs = server.post("/v2/models/embeds/infer", {"inputs": inputs}).json["outputs"]
    assert np.float32([output["data"] for output in outputs]).reshape(3, 5).T.tobytes() == expected.tobytes()
    with logging_run(name="embeds"):
        model = mlflow.pyfunc.load_model(log_policy(artifact))
    given: Any = golden
    if not artifact.card.observation_spec.has_image:
        given = pd.DataFrame({name: array.astype(float).tolist() for name, array in golden.items()})
    assert model.predict(given).to_numpy().tobytes() == expected.tobytes()


def test_a_value_that_is_no_choice_is_refused_by_row_and_name(start_server: Callable[..., Server], artifact: Artifact):
    server = start_server("--model", str(artifact.path))
    server.wait_ready()
    engine = Engine(artifact, "cpu")
    row = {name: array[0].tolist() for name, array in engine.golden.observations.items()}
    bad = [
        ("command", 6, "observations[1].command: 6 is none of its choices, the whole numbers from 0 to 5"),
        ("command", 2.5, "observations[1].command: expected a whole number from 0 to 255"),
        ("place", 2.5, "observations[1].place: 2.5 is none of its choices, the whole numbers from 0 to 499"),
        ("rows", [0, 2], "observations[1].rows[1]: 2 is none of its choices, the whole numbers from 0 to 1"),
    ]
    if "grid_front" in row:
        bad.append(("grid_front", [[0, 0], [0, 5]], "observations[1].grid_front[1][0]: 0 is outside [2, 4] 1"))
    for name, value, complaint in bad:
        answer = server.post("/predict", {"observations": [row, {**row, name: value}]})
        assert (answer.status, answer.json["error"]["code"]) == (422, "invalid_observation"), answer.json
        error = answer.json["error"]
        assert complaint == f"{error['field']}: {error['message']}", error
    document = server.get("/openapi.json").json["components"]["schemas"]["Observation"]["properties"]
    assert (document["command"]["multipleOf"], document["place"]["maximum"]) == (1, 499)
