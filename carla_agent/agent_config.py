"""The one YAML file that configures an agent: which policy, what it observes, with which sensors, on which track."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

import msgspec

from carla_mlflow import CardError, DrivingError
from carla_mlflow.contract.strict_yaml import MAX_BYTES, read_section, read_yaml
from carla_mlflow.escaping import one_line

Bound = float | tuple[float | None, ...] | None


class SensorConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A sensor of the leaderboards, in their words: metres and degrees in the car's axes, and what its type needs."""

    id: str
    type: str
    x: float = 0.0
    y: float = 0.0
    z: float = 0.0
    roll: float = 0.0
    pitch: float = 0.0
    yaw: float = 0.0
    width: int | None = None
    height: int | None = None
    fov: float | None = None
    horizontal_fov: float | None = None
    vertical_fov: float | None = None
    range: float | None = None
    sensor_tick: float | None = None
    reading_frequency: float | None = None

    def as_leaderboard(self) -> dict[str, Any]:
        """What `sensors()` returns for it."""
        return {key: value for key, value in msgspec.structs.asdict(self).items() if value is not None}


class _Observer(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, tag_field="kind"):
    pass


class MeasurementsConfig(_Observer, frozen=True, tag="measurements"):
    """`Measurements`: one term for a scalar, a list for a vector."""

    field: str
    terms: str | tuple[str, ...]
    low: Bound = None
    high: Bound = None
    unit: str = "1"


class RacetrackConfig(_Observer, frozen=True, tag="racetrack"):
    """`speed` and `steering` of policies that were trained on the racetrack."""


class RoachStateConfig(_Observer, frozen=True, tag="roach_state"):
    """`roach_state`."""

    field: str = "state"
    low: Bound = None
    high: Bound = None


class CarlMeasurementsConfig(_Observer, frozen=True, tag="carl_measurements"):
    """`carl_measurements`, with CaRL's two options."""

    field: str = "measurements"
    wheels: bool = False
    target_point: bool = False
    low: Bound = None
    high: Bound = None


class CameraConfig(_Observer, frozen=True, tag="camera"):
    """`Camera`; its shape is the card's."""

    field: str
    sensor: str
    channels: str = "rgb"


class CommandConfig(_Observer, frozen=True, tag="command"):
    """`Command`."""

    field: str = "command"
    encoding: Literal["one_hot", "1-6", "0-5"] = "one_hot"
    dtype: Literal["float32", "uint8"] = "float32"
    of: Literal["reached", "target"] = "reached"


class TargetPointConfig(_Observer, frozen=True, tag="target_point"):
    """`TargetPoint`."""

    field: str = "target_point"
    rule: Literal["transfuser", "carl"] = "transfuser"
    skip: int = 0
    low: Bound = None
    high: Bound = None
    unit: str = "m"


class BeamsConfig(_Observer, frozen=True, tag="beams"):
    """`Beams` with the angles that `examples/v0.1.0` was trained with."""

    field: str = "sensors"
    range_m: float = 40.0


class BirdViewConfig(_Observer, frozen=True, tag="bird_view"):
    """`BirdView` in one of its two layouts; the field is the layout's where none is named."""

    layout: Literal["roach", "carl"]
    field: str | None = None


ObserverConfig = (
    MeasurementsConfig
    | RacetrackConfig
    | RoachStateConfig
    | CarlMeasurementsConfig
    | CameraConfig
    | CommandConfig
    | TargetPointConfig
    | BeamsConfig
    | BirdViewConfig
)
KINDS: Mapping[str, type[_Observer]] = {str(each.__struct_config__.tag): each for each in ObserverConfig.__args__}


class AgentConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """An agent's configuration.

    Attributes:
        server: a policy server's URL, or `unix:` and its socket's path. Its API key is read from the environment
            variable POLICY_API_KEY.
        model: instead of a server: a policy artifact's folder, or a registered version such as `mine@production`.
        card: the card that the agent was built for, a file or an artifact's folder; a policy with another contract is
            refused before the first tick. None: whatever is served.
        track: SENSORS: the car is read from its sensors, and the route is the leaderboard's sparse one. MAP: the car
            is read from the simulator, as CaRL's and Roach's agents do, and the route is the dense one.
        world_hz: ticks per simulated second; 20 in the leaderboards.
        budget_ms: how long a decision may take; None: one tick.
        sensors: what the leaderboard shall attach to the car.
        observers: together they make the card's fields.
    """

    server: str | None = None
    model: str | None = None
    card: str | None = None
    track: Literal["SENSORS", "MAP"]
    world_hz: float = 20.0
    budget_ms: float | None = None
    sensors: tuple[SensorConfig, ...] = ()
    observers: tuple[ObserverConfig, ...]


def load_agent_config(path: str | Path, needs_policy: bool = True) -> AgentConfig:
    """Reads and checks an agent's configuration; relative paths in it start at its folder.

    Args:
        path: of the file.
        needs_policy: whether it must name a server or a model.

    Raises:
        DrivingError: the file can't be read, or has an unknown key or a wrong value; one line with its place.
    """
    path = Path(path)
    try:
        with path.open("rb") as opened:
            document = read_yaml(opened.read(MAX_BYTES + 1), path.name)
        for problem in _unknown_keys(document):
            raise DrivingError(f"{path.name}: {problem}")
        config = read_section(document, AgentConfig, path.name)
    except OSError as error:
        raise DrivingError(one_line(error)) from error
    except CardError as error:
        raise DrivingError(str(error)) from error
    if needs_policy and (config.server is None) == (config.model is None):
        raise DrivingError(f"{path.name}: expected either server or model")
    ids = [sensor.id for sensor in config.sensors]
    if len(set(ids)) < len(ids):
        raise DrivingError(f"{path.name}: sensors: two have the same id")
    return msgspec.structs.replace(config, card=_beside(path, config.card), model=_beside(path, config.model))


def _beside(path: Path, given: str | None) -> str | None:
    """A path relative to the file; a reference such as mine@production, or an MLflow URI, stays as it is."""
    if given is None or "@" in given or given.startswith(("models:/", "runs:/")):
        return given
    return str(path.parent / given)


def _unknown_keys(document: Any) -> Iterator[str]:
    """Each key that nobody reads, with its place and the nearest one that is read."""
    if not isinstance(document, dict):
        yield "expected keys such as server, track and observers"
        return
    yield from _unknown_in(document, AgentConfig, "")
    for section in ("sensors", "observers"):
        entries = document.get(section)
        for index, entry in enumerate(entries if isinstance(entries, list) else []):
            if not isinstance(entry, dict):
                continue
            where = f"{section}[{index}]."
            if section == "sensors":
                yield from _unknown_in(entry, SensorConfig, where)
            elif entry.get("kind") in KINDS:
                yield from _unknown_in(entry, KINDS[entry["kind"]], where, "kind")
            else:
                yield f"{where}kind: {_near(entry.get('kind'), KINDS)}"


def _unknown_in(given: Mapping[Any, Any], section: type[msgspec.Struct], where: str, *more: str) -> Iterator[str]:
    known = [*more, *(field.name for field in msgspec.structs.fields(section))]
    for key in given:
        if key not in known:
            yield f"{where}{key}: no such key; {_near(key, known)}"


def _near(given: Any, known: Mapping[str, Any] | list[str]) -> str:
    near = difflib.get_close_matches(str(given), known, n=1)
    return f"did you mean {near[0]}?" if near else f"expected one of {', '.join(known)}"
