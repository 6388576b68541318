"""What a raw action means is the card's to say: served controls are the training environment's own."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch
from registry_policies import changed, example
from tests_support import Server

from carla_mlflow import PolicyClient, write_artifact
from carla_mlflow.contract.field_card import FieldCard
from training_export.export.export import export_policy
from training_export.sources.draft import ActionDraft, CardDraft, complete
from training_export.sources.from_module import from_network
from training_export.sources.preprocessed import Preprocessed

Start = Callable[..., Server]
ROWS = np.random.default_rng(0).uniform(-1, 1, (200, 2)).astype(np.float32)


class Stretched(torch.nn.Module):
    """Gives [3 x, 0.3 y] of its observation [x, y], and so any action of gym-carla's space."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(2, 2, bias=False)
        with torch.no_grad():
            self.layer.weight.copy_(torch.tensor([[3.0, 0.0], [0.0, 0.3]]))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer(x)


@pytest.fixture(scope="module")
def gym_carla(tmp_path_factory: pytest.TempPathFactory) -> Path:
    raw = {"acceleration": (-3.0, 3.0), "steer": (-0.3, 0.3)}
    fulls = {"full_throttle": 3.0, "full_brake": -8.0, "full_right": -1.0}
    section = {"x": FieldCard("float32", [2], -1.0, 1.0)}
    draft = CardDraft(ActionDraft("acceleration_steer", raw, "deterministic", **fulls), section)
    trained = from_network("toy", Stretched().eval(), draft, section, complete(draft.action), Preprocessed())
    exported = export_policy(trained, "gym-carla", "1.0.0", "")
    return write_artifact(tmp_path_factory.mktemp("policy") / "gym-carla", exported.artifact).path


def test_served_controls_are_the_environments_own(start_server: Start, gym_carla: Path):
    server = start_server("--model", str(gym_carla))
    server.wait_ready()
    with PolicyClient(server.url) as client:
        actions = client.act({"x": ROWS})
    answer = server.post("/predict", {"observations": [{"x": row.tolist()} for row in ROWS], "details": True}).json
    controls = np.array([[action[name] for name in ("throttle", "brake", "steer")] for action in answer["actions"]])
    raw = np.array([list(row["raw"].values()) for row in answer["details"]])
    np.testing.assert_array_equal(controls.astype(np.float32), actions.control)
    np.testing.assert_array_equal(raw.astype(np.float32), actions.raw)
    acc, steer = raw.T
    throttle = np.where(acc > 0, np.clip(acc / 3, 0, 1), 0)
    brake = np.where(acc > 0, 0, np.clip(-acc / 8, 0, 1))
    np.testing.assert_allclose(controls, np.stack([throttle, brake, -steer], axis=1), rtol=1e-6, atol=1e-7)
    assert server.get("/readyz").json["warnings"] == ["unpinned: no digest was given for this folder"]


def test_full_pedal_is_full_by_the_cards_scale(start_server: Start, gym_carla: Path):
    server = start_server("--model", str(gym_carla))
    server.wait_ready()
    rows = [{"x": [x, 1.0]} for x in (1.0, 1.0, 0.99, -1.0)]
    assert server.post("/predict", {"observations": rows}).status == 200
    text = server.get("/metrics").body.decode()
    counted = dict(re.findall(r'policy_saturated_total{dimension="(\w+)",version="[^"]+"} (\S+)', text))
    assert counted == {"throttle": "2.0", "brake": "0.0", "steer": "0.0"}


def test_an_artifact_that_does_not_say_what_its_raw_actions_mean_drives_on_with_a_warning(
    start_server: Start, tmp_path: Path
):
    action = example().card.action
    wide = msgspec.structs.replace(action, raw={**action.raw, "acceleration": (-1.0, 2.0)})
    server = start_server("--model", changed(tmp_path, "0.2.0", action=wide))
    server.wait_ready()
    text = "0.2.0: action.raw.acceleration has the bounds [-1, 2], not [-1, 1], and the card has no full_throttle"
    warnings = server.get("/readyz").json["warnings"]
    assert [warning for warning in warnings if warning.startswith(text)]
    assert text in server.log.read_text()
    row = {"speed": 6.0, "steering": 0.0, "sensors": [0.5] * 12}
    assert server.post("/predict", {"observations": [row]}).status == 200
