"""What the tests of carla_agent share: ticks and cars that are given, not simulated."""

from __future__ import annotations

import math
from collections.abc import Mapping
from types import MappingProxyType, SimpleNamespace

import carla

from carla_agent.observers.ego import Ego
from carla_agent.observers.geo import EARTH_RADIUS_M, GeoReference
from carla_agent.observers.observer import Snapshot


def at_tick(frame: int, hz: float = 20.0) -> Snapshot:
    """A tick of a world at that rate."""
    return SimpleNamespace(frame=frame, timestamp=SimpleNamespace(elapsed_seconds=frame / hz))


def standing_car() -> Ego:
    """A car that stands at the world's origin and looks along x."""
    nowhere = (0.0, 0.0, 0.0)
    return Ego(0, 0.0, nowhere, 0.0, 0.0, 0.0, nowhere, nowhere, nowhere, 0.0, 0.0, 0.0, 1, 30.0)


class GivenEgo:
    """A source that always reads the same car; `car` may be replaced between ticks."""

    unknown: Mapping[str, str] = MappingProxyType({})

    def __init__(self, car: Ego) -> None:
        self.car = car

    def read(self, snapshot: Snapshot) -> Ego:
        return self.car


def to_degrees(reference: GeoReference, x: float, y: float) -> tuple[float, float]:
    """Latitude and longitude of a place in the world, metres: what `GeoReference.to_world` is the inverse of."""
    scale = EARTH_RADIUS_M * math.cos(math.radians(reference.latitude))
    north = math.atanh(math.sin(math.radians(reference.latitude))) - y / scale  # on a Mercator map
    return math.degrees(math.asin(math.tanh(north))), reference.longitude + math.degrees(x / scale)


def turning_map() -> carla.Map:
    """A map of one lane: 30 m along x, a junction that turns left by 90 degrees, and 30 m on."""
    lanes = (
        '<lanes><laneSection s="0"><center><lane id="0" type="none" level="false"/></center><right>'
        '<lane id="-1" type="driving" level="false"><link>{link}</link>'
        '<width sOffset="0" a="3" b="0" c="0" d="0"/></lane></right></laneSection></lanes>'
    )
    road = (
        '<road name="" length="{length}" id="{id}" junction="{junction}"><link>{links}</link><planView>'
        '<geometry s="0" x="{x}" y="{y}" hdg="{heading}" length="{length}">{shape}</geometry></planView>'
        "<elevationProfile/><lateralProfile/>" + lanes + "</road>"
    )
    before, after = '<predecessor id="-1"/>', '<successor id="-1"/>'
    arc = 10 * math.pi / 2
    roads = [
        road.format(
            id=1, junction=-1, length=30, x=0, y=0, heading=0, shape="<line/>", link="",
            links='<successor elementType="junction" elementId="9"/>',
        ),
        road.format(
            id=3, junction=9, length=arc, x=30, y=0, heading=0, shape='<arc curvature="0.1"/>', link=before + after,
            links='<predecessor elementType="road" elementId="1" contactPoint="end"/>'
            '<successor elementType="road" elementId="2" contactPoint="start"/>',
        ),
        road.format(
            id=2, junction=-1, length=30, x=40, y=10, heading=math.pi / 2, shape="<line/>", link="",
            links='<predecessor elementType="junction" elementId="9"/>',
        ),
    ]  # fmt: skip
    header = '<header revMajor="1" revMinor="4" north="0" south="0" east="0" west="0"/>'
    junction = (
        '<junction id="9" name=""><connection id="0" incomingRoad="1" connectingRoad="3" contactPoint="start">'
        '<laneLink from="-1" to="-1"/></connection></junction>'
    )
    return carla.Map("turn", f'<?xml version="1.0"?><OpenDRIVE>{header}{"".join(roads)}{junction}</OpenDRIVE>')
