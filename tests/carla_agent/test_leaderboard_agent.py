"""One agent drives in every dialect of the leaderboards, in a world that the real carla.Client talks to."""

from __future__ import annotations

import importlib
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import carla
import pytest
import torch
import yaml
from agent_evaluators import EVALUATORS, Evaluation, load_agent
from tests_support import Server
from toy_carla import ToyCarla

from benchmarks.policies.networks import FULL_BRAKE
from carla_agent.observers.geo import GeoReference
from carla_mlflow import CarlaMlflowError, ContractError, DrivingError, write_artifact
from carla_mlflow.contract.action_card import ActionCard
from carla_mlflow.contract.field_card import FieldCard
from training_export.export.export import export_policy
from training_export.sources.draft import CardDraft
from training_export.sources.from_module import from_network
from training_export.sources.preprocessed import Preprocessed

pytestmark = pytest.mark.xdist_group("toy_carla")
TICKS = 200
AT_ZERO = GeoReference()
PATIENT_MS = 20_000.0
"""A budget under which no decision is late on a busy machine, unless it is lost."""
EXAMPLES = Path(__file__).parents[2] / "carla_agent" / "examples"


@pytest.fixture(scope="module")
def client() -> Iterator[carla.Client]:
    with ToyCarla() as toy:
        client = carla.Client(toy.host, toy.port)
        client.set_timeout(10.0)
        yield client


@pytest.fixture
def evaluate(client: carla.Client, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Evaluation]]:
    """Makes a dialect's evaluator in the ring; its car is gone afterwards."""
    made: list[Evaluation] = []

    def make(dialect: str, hz: float = 20.0, origin: GeoReference = AT_ZERO) -> Evaluation:
        world = client.get_world()
        world.apply_settings(carla.WorldSettings(synchronous_mode=True, fixed_delta_seconds=1 / hz))
        made.append(Evaluation(load_agent(monkeypatch, dialect), world, origin))
        return made[-1]

    yield make
    for each in made:
        each.clean()


def configured(folder: Path, example: str, **changed: object) -> str:
    """An example's configuration with some keys changed, as a file."""
    document = yaml.safe_load((EXAMPLES / example).read_text())
    document.update(changed)
    file = folder / example
    file.write_text(yaml.safe_dump({key: value for key, value in document.items() if value is not None}))
    return str(file)


@pytest.mark.parametrize("dialect", EVALUATORS)
def test_the_example_policy_drives_in_every_dialect(
    dialect: str,
    server: Server,
    evaluate: Callable[..., Evaluation],
    tmp_path: Path,
):
    hz = 10.0 if dialect == "carl_training" else 20.0
    config = configured(tmp_path, "vector.yaml", server=server.url, world_hz=hz, budget_ms=PATIENT_MS)
    run = evaluate(dialect, hz)
    stages = EVALUATORS[dialect](run, config, TICKS)
    next(stages)
    record, began = run.agent.record, run.world.get_map().get_spawn_points()[0].location
    assert run.agent.track.value == "MAP"
    assert record.fallbacks == {}
    assert record.versions == {"0.1.0": 100}
    assert run.hero.get_location().distance(began) > 10
    assert run.world.get_map().get_waypoint(run.hero.get_location(), project_to_road=False) is not None
    assert len(run.controls) == TICKS
    assert list(stages) == []
    assert run.agent.record is None


@pytest.fixture(scope="module")
def camera_policy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An artifact for camera.yaml that drives on when all it sees is right, and brakes otherwise."""
    section = {
        "rgb": FieldCard("uint8", [3, 128, 256], 0, 255),
        "speed": FieldCard("float32", [], unit="m/s"),
        "command": FieldCard("float32", [6], 0.0, 1.0),
        "target_point": FieldCard("float32", [2], -200.0, 200.0, unit="m"),
    }
    return written(SeesRight(), section, 20.0, tmp_path_factory.mktemp("camera") / "policy")


def written(network: torch.nn.Module, section: dict[str, FieldCard], rate_hz: float, folder: Path) -> Path:
    """An artifact of that network, which returns acceleration and steer."""
    raw = {"acceleration": (-1.0, 1.0), "steer": (-1.0, 1.0)}
    action = ActionCard("deterministic", raw, "acceleration_steer", rate_hz, FULL_BRAKE)
    trained = from_network("it", network.eval(), CardDraft(), section, action, Preprocessed())
    return write_artifact(folder, export_policy(trained, "sees", "1.0.0", "drives while it sees right").artifact).path


class SeesRight(torch.nn.Module):
    """Throttle 0.3 while the image is the harness's in RGB, the command is LANEFOLLOW and the target lies ahead."""

    def __init__(self) -> None:
        super().__init__()
        self.colour = torch.nn.Parameter(torch.tensor([30.0, 20.0, 10.0]))

    def forward(
        self, rgb: torch.Tensor, speed: torch.Tensor, command: torch.Tensor, target_point: torch.Tensor
    ) -> torch.Tensor:
        wrong = (rgb.float().mean(dim=[2, 3]) - self.colour).abs().sum(dim=1) + (1 - command[:, 3])
        wrong = wrong + torch.relu(-target_point[:, 0]) + torch.relu(speed - 30.0)
        return torch.stack([0.3 - torch.clamp(wrong, 0.0, 1.3), 0.0 * wrong], dim=1)


class SeesRoad(torch.nn.Module):
    """Throttle 0.3 while there is road and route ahead of the car."""

    def __init__(self) -> None:
        super().__init__()
        self.least = torch.nn.Parameter(torch.tensor(200.0))

    def forward(self, birdview: torch.Tensor, state: torch.Tensor) -> torch.Tensor:
        ahead = birdview[:, :2, 130:150, 92:100].float().mean(dim=[2, 3])
        wrong = torch.relu(self.least - ahead).sum(dim=1) + 0.0 * state.sum(dim=1)
        return torch.stack([0.3 - torch.clamp(wrong, 0.0, 1.3), 0.0 * wrong], dim=1)


@pytest.fixture(scope="module")
def bird_policy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An artifact for bird_view.yaml."""
    section = {"birdview": FieldCard("uint8", [15, 192, 192], 0, 255), "state": FieldCard("float32", [6])}
    return written(SeesRoad(), section, 10.0, tmp_path_factory.mktemp("bird") / "policy")


@pytest.mark.parametrize("dialect", ["leaderboard_1", "carl"])
def test_a_birds_eye_view_policy_drives_with_roachs_observations(
    dialect: str, bird_policy: Path, evaluate: Callable[..., Evaluation], tmp_path: Path
):
    config = configured(tmp_path, "bird_view.yaml", server=None, model=str(bird_policy), budget_ms=PATIENT_MS)
    run = evaluate(dialect)
    stages = EVALUATORS[dialect](run, config, 40)
    next(stages)
    assert run.agent.record.fallbacks == {}
    assert run.agent.record.versions == {"1.0.0": 20}
    assert [control.throttle for control in run.controls] == pytest.approx([0.3] * 40)
    assert list(stages) == []


@pytest.mark.parametrize("dialect", ["leaderboard_1", "leaderboard_2", "bench2drive", "carla_garage_2"])
def test_a_camera_policy_drives_on_the_track_sensors(
    dialect: str,
    camera_policy: Path,
    evaluate: Callable[..., Evaluation],
    tmp_path: Path,
):
    model = str(camera_policy)
    config = configured(tmp_path, "camera.yaml", server=None, model=model, card=model, budget_ms=PATIENT_MS)
    run = evaluate(dialect, origin=GeoReference(48.0, 11.0))
    run.hides_car = True  # the track SENSORS reads nothing of the simulator
    stages = EVALUATORS[dialect](run, config, 40)
    next(stages)
    assert run.agent.track.value == "SENSORS"
    assert run.agent.record.fallbacks == {}
    assert run.agent.record.versions == {"1.0.0": 40}
    assert [control.throttle for control in run.controls] == pytest.approx([0.3] * 40)
    assert list(stages) == []


def test_the_car_brakes_until_every_sensor_has_sent_data(
    camera_policy: Path, evaluate: Callable[..., Evaluation], tmp_path: Path
):
    config = configured(tmp_path, "camera.yaml", server=None, model=str(camera_policy), budget_ms=PATIENT_MS)
    run = evaluate("leaderboard_2")
    stages = EVALUATORS["leaderboard_2"](run, config, 1)
    next(stages)
    given = run.latest
    for missing in given:
        run.agent.set_global_plan(run.gps_route, run.route)  # a new route: what was sent before does not count
        control = run.agent.run_step({each: data for each, data in given.items() if each != missing}, 0.0)
        assert (control.throttle, control.steer, control.brake) == (0.0, 0.0, 1.0)
        assert run.agent.record.decisions == 0
    assert run.agent.run_step(given, 0.1).throttle == pytest.approx(0.3)


@pytest.mark.parametrize(
    ("name", "changed", "said"),
    [
        ("vector.yaml", {"track": "SENSORS"}, "on the track SENSORS the car is read from its sensors: add sensor.sp"),
        ("camera.yaml", {"track": "SENSORS", "observers": [{"kind": "beams"}]}, "beams reads the simulator, which the"),
        (
            "camera.yaml",
            {"observers": [{"kind": "roach_state"}]},
            "state: gear/5 can't be known here: no sensor of the track SENSORS tells it",
        ),
        (
            "camera.yaml",
            {"observers": [{"kind": "bird_view", "layout": "carl"}]},
            "bird_view reads the simulator, which",
        ),
        (
            "camera.yaml",
            {"observers": [{"kind": "target_point", "rule": "carl"}]},
            "target_point with the rule carl reads the simulator, which",
        ),
        ("vector.yaml", {"observers": [{"kind": "racetrack"}]}, "no observer makes sensors"),
        ("vector.yaml", {"world_hz": 25}, "the policy decides at 10 Hz and the world ticks at 25 Hz"),
        ("camera.yaml", {}, "rgb: the card of racetrack-policy has no such image"),
    ],
)
def test_what_does_not_fit_is_refused_at_setup(
    name: str,
    changed: dict[str, object],
    said: str,
    server: Server,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
):
    agent = load_agent(monkeypatch, "leaderboard_2").PolicyAgent("localhost", 2000)
    with pytest.raises(CarlaMlflowError, match=re.escape(said)):
        agent.setup(configured(tmp_path, name, server=server.url, **changed))


def test_an_agent_whose_second_setup_fails_does_not_go_on_with_the_first(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    agent = load_agent(monkeypatch, "leaderboard_2").PolicyAgent("localhost", 2000)
    agent.setup(configured(tmp_path, "vector.yaml", server=server.url))
    assert agent.record is not None
    with pytest.raises(DrivingError, match="unknown key"):
        agent.setup(configured(tmp_path, "vector.yaml", server=server.url, sever=server.url))
    assert agent.record is None
    with pytest.raises(DrivingError, match="setup was not called, or failed"):
        agent.run_step({}, 0.0)


def test_a_policy_of_another_contract_is_refused_at_setup(
    server: Server, example: Path, camera_policy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    agent = load_agent(monkeypatch, "leaderboard_2").PolicyAgent("localhost", 2000)
    with pytest.raises(ContractError, match="has other observations than expected: rgb"):
        agent.setup(configured(tmp_path, "vector.yaml", server=server.url, card=str(camera_policy)))
    with pytest.raises(ContractError, match="has another contract than"):
        agent.setup(configured(tmp_path, "camera.yaml", server=None, model=str(camera_policy), card=str(server_card())))


def server_card() -> Path:
    return EXAMPLES.parents[1] / "examples" / "v0.1.0"


def test_a_leaderboard_without_degrees_can_not_drive_on_the_track_sensors(
    camera_policy: Path, evaluate: Callable[..., Evaluation], tmp_path: Path
):
    config = configured(tmp_path, "camera.yaml", server=None, model=str(camera_policy), world_hz=20)
    run = evaluate("carl_training")
    with pytest.raises(DrivingError, match="tells no plan in degrees, which the track SENSORS needs"):
        next(EVALUATORS["carl_training"](run, config, 1))


def test_without_a_leaderboard_the_file_says_what_is_missing(monkeypatch: pytest.MonkeyPatch):
    for name in list(sys.modules):
        if name.partition(".")[0] in {"leaderboard", "leaderboard_agent"}:
            monkeypatch.delitem(sys.modules, name)
    with pytest.raises(DrivingError, match="is loaded by a leaderboard's evaluator"):
        importlib.import_module("carla_agent.leaderboard_agent")
