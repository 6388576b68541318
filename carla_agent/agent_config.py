"""The one YAML file that configures an agent: which policy, what it observes, with which sensors, on which track."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from carla_mlflow import CardError, DrivingError
from carla_mlflow.contract.array_bounds import Bound
from carla_mlflow.contract.strict_yaml import MAX_BYTES, read_section, read_yaml
from carla_mlflow.escaping import one_line

Text = Annotated[str, Meta(min_length=1)]
Pixels = Annotated[int, Meta(ge=1)]
Metres = Annotated[float, Meta(gt=0, le=1000)]
Offset = Annotated[float, Meta(ge=-1000, le=1000)]
Turn = Annotated[float, Meta(ge=-360, le=360)]
Degrees = Annotated[float, Meta(gt=0, le=360)]
Seconds = Annotated[float, Meta(ge=0, le=3600)]
Hertz = Annotated[float, Meta(gt=0, le=1000)]
Milliseconds = Annotated[float, Meta(gt=0, le=3_600_000)]


class SensorConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A sensor of the leaderboards, in their words: metres and degrees in the car's axes, and what its type needs."""

    id: Text
    type: Text
    x: Offset = 0.0
    y: Offset = 0.0
    z: Offset = 0.0
    roll: Turn = 0.0
    pitch: Turn = 0.0
    yaw: Turn = 0.0
    width: Pixels | None = None
    height: Pixels | None = None
    fov: Degrees | None = None
    horizontal_fov: Degrees | None = None
    vertical_fov: Degrees | None = None
    range: Metres | None = None
    sensor_tick: Seconds | None = None
    reading_frequency: Hertz | None = None

    def as_leaderboard(self) -> dict[str, Any]:
        """What `sensors()` returns for it."""
        return {key: value for key, value in msgspec.structs.asdict(self).items() if value is not None}


class _Observer(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, tag_field="kind"):
    pass


class MeasurementsConfig(_Observer, frozen=True, tag="measurements"):
    """`Measurements`: one float32 field of named terms, a scalar of one or a vector of a list.

    Attributes:
        field: the card's field.
        terms: as in `measurements.TERMS`.
        low, high: in the field's unit; values are clipped to them.
    """

    field: str
    terms: str | tuple[str, ...]
    low: Bound = None
    high: Bound = None


class RacetrackConfig(_Observer, frozen=True, tag="racetrack"):
    """`racetrack_measurements`: the fields `speed` (m/s) and `steering` of policies trained on the racetrack."""


class RoachStateConfig(_Observer, frozen=True, tag="roach_state"):
    """`roach_state`: Roach's vector of six, the control and the velocity; low, high: in the field's unit."""

    field: str = "state"
    low: Bound = None
    high: Bound = None


class CarlMeasurementsConfig(_Observer, frozen=True, tag="carl_measurements"):
    """`carl_measurements`: CaRL's vector of eight, and its two options.

    Attributes:
        field: the card's field.
        wheels: four more elements, of a `WheelControl`.
        target_point: two more, of a `TargetPoint`.
        low, high: in the field's unit.
    """

    field: str = "measurements"
    wheels: bool = False
    target_point: bool = False
    low: Bound = None
    high: Bound = None


class CameraConfig(_Observer, frozen=True, tag="camera"):
    """`Camera`: the image of the sensor with that id, uint8 of the card's shape; channels: letters of r, g, b and a."""

    field: str
    sensor: str
    channels: str = "rgb"


class CommandConfig(_Observer, frozen=True, tag="command"):
    """`Command`: the road option at this point of the route, as one of its encodings."""

    field: str = "command"
    encoding: Literal["one_hot", "1-6", "0-5"] = "one_hot"
    dtype: Literal["float32", "uint8"] = "float32"
    of: Literal["reached", "target"] = "reached"


class TargetPointConfig(_Observer, frozen=True, tag="target_point"):
    """`TargetPoint`: the next target of the route, metres ahead and to the right.

    Attributes:
        field: the card's field.
        rule, skip: as for `TargetPoint`.
        low, high: in the field's unit, metres.
    """

    field: str = "target_point"
    rule: Literal["transfuser", "carl"] = "transfuser"
    skip: Annotated[int, Meta(ge=0, le=1000)] = 0
    low: Bound = None
    high: Bound = None


class BeamsConfig(_Observer, frozen=True, tag="beams"):
    """`Beams`: free distances ÷ `range_m` (metres), at the angles that `examples/v0.1.0` was trained with."""

    field: str = "sensors"
    range_m: Metres = 40.0


class BirdViewConfig(_Observer, frozen=True, tag="bird_view"):
    """`BirdView`: the image of one of its two layouts; the field is the layout's where none is named."""

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
        model: instead of a server: a policy artifact's folder, a version in a folder of artifacts such as
            `policies/@^1.2`, or a registered version such as `mine@production`.
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
    world_hz: Hertz = 20.0
    budget_ms: Milliseconds | None = None
    sensors: tuple[SensorConfig, ...] = ()
    observers: tuple[ObserverConfig, ...]


def load_agent_config(path: str | Path, needs_policy: bool = True) -> AgentConfig:
    """Reads and checks an agent's configuration.

    `card` and `model`, where they are relative paths, start at its folder; a model with a `/` and without `models:/` or
    `runs:/` counts as a path.

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
        raise DrivingError(f"{path.name}: expected exactly one of server and model")
    ids = [sensor.id for sensor in config.sensors]
    if len(set(ids)) < len(ids):
        raise DrivingError(f"{path.name}: sensors: two have the same id")
    return msgspec.structs.replace(config, card=_beside(path, config.card), model=_beside(path, config.model))


def _beside(path: Path, given: str | None) -> str | None:
    """A path relative to the file; a reference such as mine@production, or an MLflow URI, stays as it is."""
    if given is None or given.startswith(("models:/", "runs:/")) or ("@" in given and "/" not in given):
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
            yield f"{where}{key}: unknown key; {_near(key, known)}"


def _near(given: Any, known: Mapping[str, Any] | list[str]) -> str:
    near = difflib.get_close_matches(str(given), known, n=1)
    return f"did you mean {near[0]}?" if near else f"expected one of {', '.join(known)}"
