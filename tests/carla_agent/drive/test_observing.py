"""The drive command takes its observers from an agent's file, with cameras that it attaches itself."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import carla
import pytest
from tests_support import EXAMPLE
from toy_carla import ToyCarla

from carla_agent.contract_check import check_fit
from carla_agent.drive.observing import Scene, observers_for
from carla_agent.drive.spawned import SpawnedActors
from carla_mlflow import Card, ContractError, DrivingError
from carla_mlflow.contract.field_card import FieldCard
from carla_mlflow.interrupt import Interrupt

pytestmark = pytest.mark.xdist_group("toy_carla")
EXAMPLES = Path(__file__).parents[3] / "carla_agent" / "examples"


@pytest.fixture
def scene() -> Iterator[Scene]:
    with ToyCarla() as toy:
        client = carla.Client(toy.host, toy.port)
        client.set_timeout(10.0)
        world = client.get_world()
        world.apply_settings(carla.WorldSettings(synchronous_mode=True, fixed_delta_seconds=0.05))
        with SpawnedActors(client, world, Interrupt("stopping")) as actors:
            blueprint = world.get_blueprint_library().find("vehicle.lincoln.mkz_2020")
            car = actors.spawn_car(blueprint, world.get_map().get_spawn_points())
            world.tick()
            yield Scene(world, car, actors, hz=20.0, seconds=60.0)


def card_with(**fields: FieldCard) -> Card:
    """The example's card with other fields."""
    card = Card.load(EXAMPLE)
    return Card(**{**{name: getattr(card, name) for name in card.__struct_fields__}, "observation": fields})


def camera_card() -> Card:
    return card_with(
        rgb=FieldCard("uint8", [3, 128, 256], 0, 255),
        speed=FieldCard("float32", [], unit="m/s"),
        command=FieldCard("float32", [6], 0.0, 1.0),
        target_point=FieldCard("float32", [2], -200.0, 200.0, unit="m"),
    )


@pytest.mark.parametrize("file", [EXAMPLES / "camera.yaml", None])
def test_a_file_or_the_cards_fields_name_the_observers_of_a_camera_policy(scene: Scene, file: Path | None):
    card = camera_card()
    observers, _ = observers_for(card, scene, file)
    check_fit(card, observers)
    for observer in observers:
        observer.reset()
    for _ in range(3):
        scene.carla_world.tick()
        snapshot = scene.carla_world.get_snapshot()
        seen = {name: array for observer in observers for name, array in (observer.observe(snapshot) or {}).items()}
        assert set(seen) == {"rgb", "speed", "command", "target_point"}
        assert seen["rgb"].std() > 0
        assert seen["target_point"][0] > 0


def test_a_file_that_does_not_fit_the_card_is_refused(scene: Scene, tmp_path: Path):
    with pytest.raises(ContractError, match="rgb: the card of racetrack-policy has no such image"):
        observers_for(Card.load(EXAMPLE), scene, EXAMPLES / "camera.yaml")
    (tmp_path / "mine.yaml").write_text("track: MAP\nobservers: [{kind: beam}]\n")
    with pytest.raises(DrivingError, match=r"mine\.yaml: observers\[0\]\.kind: did you mean beams\?"):
        observers_for(Card.load(EXAMPLE), scene, tmp_path / "mine.yaml")


def test_a_file_for_the_track_sensors_is_used_with_a_warning(scene: Scene, capsys: pytest.CaptureFixture[str]):
    observers_for(camera_card(), scene, EXAMPLES / "camera.yaml")
    said = "warning: camera.yaml: its track is SENSORS, but here the car is read from the simulator\n"
    assert capsys.readouterr().err == said


def test_a_file_without_a_server_is_enough(scene: Scene, tmp_path: Path):
    (tmp_path / "mine.yaml").write_text("track: MAP\nobservers: [{kind: racetrack}, {kind: beams}]\n")
    card = Card.load(EXAMPLE)
    check_fit(card, observers_for(card, scene, tmp_path / "mine.yaml")[0])


def test_roachs_fields_are_found_by_their_names(scene: Scene):
    card = card_with(birdview=FieldCard("uint8", [15, 192, 192], 0, 255), state=FieldCard("float32", [6], None, None))
    observers, _ = observers_for(card, scene, None)
    check_fit(card, observers)


def test_fields_that_no_example_makes_are_named(scene: Scene):
    with pytest.raises(ContractError, match="observes lidar: name what makes these in a file such as"):
        observers_for(card_with(lidar=FieldCard("float32", [4])), scene, None)
