"""An agent's file is read strictly: whatever nobody would read, or nobody could use, is named with its place."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import carla_agent
from carla_agent.agent_config import CameraConfig, load_agent_config
from carla_mlflow import DrivingError

EXAMPLES = sorted((Path(carla_agent.__file__).parent / "examples").glob("*.yaml"))
GOOD = """
server: http://127.0.0.1:8080
track: MAP
sensors:
  - {id: front, type: sensor.camera.rgb, width: 64, height: 32, fov: 90}
observers:
  - {kind: camera, field: rgb, sensor: front}
"""


@pytest.mark.parametrize("file", EXAMPLES, ids=[file.stem for file in EXAMPLES])
def test_every_packaged_example_loads(file: Path):
    config = load_agent_config(file)
    assert config.observers
    assert config.server == "http://127.0.0.1:8080"


def test_there_is_an_example_for_each_kind_of_policy():
    assert {"bird_view", "camera", "vector"} == {file.stem for file in EXAMPLES}


def test_a_file_says_what_the_leaderboard_attaches_and_who_observes(tmp_path: Path):
    config = load_agent_config(written(tmp_path, GOOD))
    (sensor,) = config.sensors
    assert sensor.as_leaderboard() == {
        "id": "front", "type": "sensor.camera.rgb", "x": 0.0, "y": 0.0, "z": 0.0, "roll": 0.0, "pitch": 0.0, "yaw": 0.0,
        "width": 64, "height": 32, "fov": 90.0,
    }  # fmt: skip
    assert config.observers == (CameraConfig(field="rgb", sensor="front"),)
    assert (config.world_hz, config.budget_ms) == (20.0, None)


def test_paths_start_at_the_files_folder_and_mlflows_names_stay(tmp_path: Path):
    text = GOOD.replace("server: http://127.0.0.1:8080", "model: ../policies/1.0.0\ncard: /cards/model_card.yaml")
    config = load_agent_config(written(tmp_path, text))
    assert (config.model, config.card) == (f"{tmp_path}/../policies/1.0.0", "/cards/model_card.yaml")
    for name in ("models:/mine@production", "mine@production", "mine@^1.2", "runs:/1a2b/policy"):
        text = GOOD.replace("server: http://127.0.0.1:8080", f"model: {name}")
        assert load_agent_config(written(tmp_path, text)).model == name


@pytest.mark.parametrize(
    ("model", "path"),
    [
        ("policies/@^1.2", "{}/policies/@^1.2"),
        ("../@1.2.3", "{}/../@1.2.3"),
        ("me@home/policy", "{}/me@home/policy"),
        ("/srv/policies/@^1.2", "/srv/policies/@^1.2"),
    ],
)
def test_a_folder_of_artifacts_starts_at_the_files_folder_too(model: str, path: str, tmp_path: Path):
    config = load_agent_config(written(tmp_path, GOOD.replace("server: http://127.0.0.1:8080", f"model: {model}")))
    assert config.model == path.format(tmp_path)


@pytest.mark.parametrize(
    ("was", "becomes", "said"),
    [
        ("track: MAP", "trakc: MAP", "agent.yaml: trakc: unknown key; did you mean track?"),
        ("fov: 90", "fow: 90", "agent.yaml: sensors[0].fow: unknown key; did you mean fov?"),
        ("sensor: front", "sensr: front", "agent.yaml: observers[0].sensr: unknown key; did you mean sensor?"),
        ("kind: camera", "kind: camra", "agent.yaml: observers[0].kind: did you mean camera?"),
        ("kind: camera, ", "", "agent.yaml: observers[0].kind: expected one of measurements, racetrack"),
        ("track: MAP", "track: map", "agent.yaml: Invalid enum value 'map' - at `$.track`"),
        ("width: 64", "width: wide", "agent.yaml: Expected `int | null`, got `str` - at `$.sensors[0].width`"),
        ("track: MAP", "track: MAP\nmodel: here", "agent.yaml: expected exactly one of server and model"),
        ("server: http://127.0.0.1:8080", "", "agent.yaml: expected exactly one of server and model"),
        ("track: MAP", "track: MAP\ntrack: MAP", "agent.yaml: invalid YAML: the key 'track' is there twice"),
        (
            "sensors:",
            "sensors:\n  - {id: front, type: sensor.other.imu}",
            "agent.yaml: sensors: two have the same id",
        ),
    ],
)
def test_a_mistake_is_named_with_its_place(was: str, becomes: str, said: str, tmp_path: Path):
    assert was in GOOD
    with pytest.raises(DrivingError, match=re.escape(said)) as raised:
        load_agent_config(written(tmp_path, GOOD.replace(was, becomes)))
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("was", "becomes", "place"),
    [
        ("track: MAP", "track: MAP\nworld_hz: {}", "world_hz"),
        ("track: MAP", "track: MAP\nbudget_ms: {}", "budget_ms"),
        ("fov: 90", "fov: {}", "sensors[0].fov"),
        ("kind: camera, field: rgb, sensor: front", "kind: beams, range_m: {}", "observers[0].range_m"),
    ],
)
@pytest.mark.parametrize("number", ["0", "-1", ".inf", "-.inf", ".nan"])
def test_a_number_that_can_not_be_is_refused(was: str, becomes: str, place: str, number: str, tmp_path: Path):
    with pytest.raises(DrivingError, match=re.escape(f"at `$.{place}`")) as raised:
        load_agent_config(written(tmp_path, GOOD.replace(was, becomes.format(number))))
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("was", "becomes", "said"),
    [
        ("kind: camera, field: rgb, sensor: front", "kind: target_point, skip: -1", ">= 0 - at `$.observers[0].skip`"),
        ("type: sensor.camera.rgb", "type: ''", "length >= 1 - at `$.sensors[0].type`"),
        ("width: 64", "width: 0", ">= 1 - at `$.sensors[0].width`"),
        ("fov: 90", "x: .nan", "at `$.sensors[0].x`"),
    ],
)
def test_a_value_that_can_not_be_is_refused(was: str, becomes: str, said: str, tmp_path: Path):
    with pytest.raises(DrivingError, match=re.escape(said)):
        load_agent_config(written(tmp_path, GOOD.replace(was, becomes)))


@pytest.mark.parametrize("text", ["", "- a list", "a text"])
def test_a_file_without_keys_is_refused(text: str, tmp_path: Path):
    with pytest.raises(DrivingError, match=r"agent\.yaml: expected keys such as server, track and observers"):
        load_agent_config(written(tmp_path, text))


def test_a_missing_file_is_named(tmp_path: Path):
    with pytest.raises(DrivingError, match=r"none\.yaml: No such file"):
        load_agent_config(tmp_path / "none.yaml")


def written(folder: Path, text: str) -> Path:
    file = folder / "agent.yaml"
    file.write_text(text)
    return file
