"""Writes roads as an OpenDRIVE 1.4 file, as `carla.Map` reads it (LibCarla, opendrive/OpenDriveParser.cpp)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from xml.etree import ElementTree as Xml

from .roads import Lane, Road

TRAFFIC_LIGHT = "1000001"
"""The signal type that CARLA takes for a traffic light (LibCarla, road/SignalType.cpp)."""

JUNCTION = 1000
"""The junction's id. It must be no road's id: LibCarla takes a link to a junction for one to the road of that id."""


@dataclass(frozen=True)
class Connection:
    """A way through a junction: from a lane of a road to its connecting road's lane."""

    incoming: int
    connecting: int
    from_lane: int
    to_lane: int


def write(
    name: str,
    roads: Sequence[Road],
    connections: Sequence[Connection],
    speed_limit_kmh: float,
    latitude: float,
    longitude: float,
) -> str:
    """The file's text.

    Args:
        name: of the town.
        roads: all, connecting roads of the junction among them.
        connections: of the one junction, JUNCTION; none where there is no junction.
        speed_limit_kmh: everywhere, km/h.
        latitude: of the origin, degrees.
        longitude: likewise.
    """
    root = Xml.Element("OpenDRIVE")
    header = Xml.SubElement(root, "header", revMajor="1", revMinor="4", name=name, version="1.00", vendor="toy_carla")
    Xml.SubElement(header, "geoReference").text = f"+proj=tmerc +lat_0={latitude} +lon_0={longitude} +k=1 +datum=WGS84"
    for road in roads:
        _write_road(root, road, speed_limit_kmh)
    for road in roads:
        for signal in road.signals:
            controller = Xml.SubElement(root, "controller", name=f"light {signal.id}", id=str(signal.id), sequence="0")
            Xml.SubElement(controller, "control", signalId=str(signal.id), type="0")
    if connections:
        junction = Xml.SubElement(root, "junction", id=str(JUNCTION), name="crossing")
        for number, connection in enumerate(connections):
            element = Xml.SubElement(
                junction,
                "connection",
                id=str(number),
                incomingRoad=str(connection.incoming),
                connectingRoad=str(connection.connecting),
                contactPoint="start",
            )
            Xml.SubElement(element, "laneLink", {"from": str(connection.from_lane), "to": str(connection.to_lane)})
        for road in roads:
            for signal in road.signals:
                Xml.SubElement(junction, "controller", id=str(signal.id), type="0", sequence="0")
    return '<?xml version="1.0" standalone="yes"?>\n' + Xml.tostring(root, encoding="unicode")


def _write_road(root: Xml.Element, road: Road, speed_limit_kmh: float) -> None:
    element = Xml.SubElement(
        root, "road", name=f"road {road.id}", length=_number(road.length), id=str(road.id), junction=str(road.junction)
    )
    link = Xml.SubElement(element, "link")
    for tag, other in (("predecessor", road.before), ("successor", road.after)):
        if other is not None:
            where = {"elementType": other[0], "elementId": str(other[1])}
            Xml.SubElement(link, tag, where | ({"contactPoint": other[2]} if len(other) == 3 else {}))
    kind = Xml.SubElement(element, "type", s="0", type="town")
    Xml.SubElement(kind, "speed", max=_number(speed_limit_kmh), unit="km/h")
    plan, start = Xml.SubElement(element, "planView"), 0.0
    for piece in road.segments:
        geometry = Xml.SubElement(
            plan,
            "geometry",
            s=_number(start),
            x=_number(piece.x),
            y=_number(piece.y),
            hdg=_number(piece.heading),
            length=_number(piece.length),
        )
        if piece.curvature:
            Xml.SubElement(geometry, "arc", curvature=_number(piece.curvature))
        else:
            Xml.SubElement(geometry, "line")
        start += piece.length
    profile = Xml.SubElement(element, "elevationProfile")
    Xml.SubElement(profile, "elevation", s="0", a="0", b="0", c="0", d="0")
    _write_lanes(element, road)
    _write_signals(element, road)


def _write_lanes(element: Xml.Element, road: Road) -> None:
    section = Xml.SubElement(Xml.SubElement(element, "lanes"), "laneSection", s="0")
    left = sorted((lane for lane in road.lanes if lane.id > 0), key=lambda lane: -lane.id)
    right = sorted((lane for lane in road.lanes if lane.id < 0), key=lambda lane: -lane.id)
    if left:
        side = Xml.SubElement(section, "left")
        for lane in left:
            _write_lane(side, road, lane)
    middle = Xml.SubElement(Xml.SubElement(section, "center"), "lane", id="0", type="none", level="false")
    _write_mark(middle, road.center_mark)
    if right:
        side = Xml.SubElement(section, "right")
        for lane in right:
            _write_lane(side, road, lane)


def _write_lane(side: Xml.Element, road: Road, lane: Lane) -> None:
    element = Xml.SubElement(side, "lane", id=str(lane.id), type="driving", level="false")
    link = Xml.SubElement(element, "link")
    for tag, other in zip(("predecessor", "successor"), road.lane_links.get(lane.id, (None, None)), strict=True):
        if other is not None:
            Xml.SubElement(link, tag, id=str(other))
    Xml.SubElement(element, "width", sOffset="0", a=_number(lane.width), b="0", c="0", d="0")
    _write_mark(element, lane.mark)


def _write_mark(element: Xml.Element, kind: str) -> None:
    change = "both" if kind == "broken" else "none"
    Xml.SubElement(
        element,
        "roadMark",
        sOffset="0",
        type=kind,
        weight="standard",
        color="standard",
        width="0.15",
        laneChange=change,
    )


def _write_signals(element: Xml.Element, road: Road) -> None:
    signals = Xml.SubElement(element, "signals")
    for signal in road.signals:
        lanes = [lane.id for lane in road.lanes if (lane.id < 0) == signal.forward]
        side = (
            min(road.edges(lane)[0] for lane in road.lanes)
            if signal.forward
            else max(road.edges(lane)[1] for lane in road.lanes)
        )
        one = Xml.SubElement(
            signals,
            "signal",
            id=str(signal.id),
            name=f"light {signal.id}",
            s=_number(signal.s),
            t=_number(side + math.copysign(1.0, side)),
            dynamic="yes",
            orientation="+" if signal.forward else "-",
            zOffset="0",
            country="OpenDRIVE",
            type=TRAFFIC_LIGHT,
            subtype="-1",
            value="-1",
            height="0.5",
            width="0.5",
            hOffset="0",
            pitch="0",
            roll="0",
        )
        Xml.SubElement(one, "validity", fromLane=str(min(lanes)), toLane=str(max(lanes)))


def _number(value: float) -> str:
    return repr(float(value))
