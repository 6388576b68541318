"""What happened on a drive: how far, how fast, what was hit, and which versions drove."""

from __future__ import annotations

import math
from typing import Any

import carla

from ..drive_record import DriveRecord
from ..observers.ego import Ego

APART_S = 1.0
"""Contacts with the same actor within so many simulated seconds of each other are one collision."""

PERCENTS = {"p50": 50, "p90": 90, "p99": 99, "max": 100}
"""What is told of the latencies."""


class DriveReport:
    """Counts what happens to one car, tick by tick."""

    def __init__(self, carla_map: carla.Map) -> None:
        self._map = carla_map
        self._previous: Ego | None = None
        self._hit: dict[int, float] = {}
        self.ticks = self.off_road_ticks = self.collisions = self.lane_invasions = 0
        self.distance_m = self.seconds = self.max_speed_mps = 0.0
        self._began: float | None = None

    def add(self, ego: Ego) -> None:
        """Counts one tick."""
        if self._began is None:
            self._began = ego.seconds
        if self._previous is not None:
            self.distance_m += math.dist(ego.location, self._previous.location)
        self._previous = ego
        self.ticks += 1
        self.seconds = ego.seconds - self._began
        self.max_speed_mps = max(self.max_speed_mps, ego.speed)
        place = carla.Location(*ego.location)
        if self._map.get_waypoint(place, project_to_road=False, lane_type=carla.LaneType.Driving) is None:
            self.off_road_ticks += 1

    def collided(self, event: Any) -> None:
        """Counts a `carla.CollisionEvent`, of which there is one per tick as long as two actors touch."""
        other, now = event.other_actor.id if event.other_actor else 0, event.timestamp
        if now - self._hit.get(other, -math.inf) > APART_S:
            self.collisions += 1
        self._hit[other] = now

    def crossed(self, event: Any) -> None:
        """Counts a `carla.LaneInvasionEvent`."""
        self.lane_invasions += 1

    def figures(self, record: DriveRecord) -> dict[str, Any]:
        """All counts by name: m, m/s, simulated seconds, ms; a latency is None if the policy never decided."""
        return {
            "seconds": round(self.seconds, 3),
            "ticks": self.ticks,
            "distance_m": round(self.distance_m, 1),
            "speed_mps_mean": round(self.distance_m / self.seconds, 2) if self.seconds else 0.0,
            "speed_mps_max": round(self.max_speed_mps, 2),
            "collisions": self.collisions,
            "lane_invasions": self.lane_invasions,
            "off_road_ticks": self.off_road_ticks,
            "decisions": record.decisions,
            "fallbacks": dict(record.fallbacks),
            "restarts": dict(record.restarts),
            "unseen": dict(record.unseen),
            "driven_by": [{"version": version, "decisions": count} for version, count in record.stretches],
            "latency_ms": {name: record.latency_ms(percent) for name, percent in PERCENTS.items()},
            "episode_id": record.episode_id,
        }


def as_text(figures: dict[str, Any]) -> str:
    """The figures as people read them, one line for each question."""
    fallbacks = ", ".join(f"{count} {reason}" for reason, count in figures["fallbacks"].items())
    versions = ", then ".join(f"{each['version']} ({each['decisions']} decisions)" for each in figures["driven_by"])
    latency = figures["latency_ms"]
    lines = {
        "drove": f"{figures['distance_m']:.0f} m in {figures['seconds']:g} simulated seconds, "
        f"{figures['speed_mps_mean']:.1f} m/s on average, at most {figures['speed_mps_max']:.1f} m/s",
        "collisions": str(figures["collisions"]),
        "lane invasions": str(figures["lane_invasions"]),
        "off road": f"{figures['off_road_ticks']} of {figures['ticks']} ticks",
        "fallbacks": f"{sum(figures['fallbacks'].values())} of {figures['decisions']} decisions"
        + (f": {fallbacks}" if fallbacks else ""),
        "driven by": versions or ("the fallback only" if figures["decisions"] else "no decisions"),
    }
    said = _said(figures.get("latency"))
    if latency["p50"] is not None:
        lines["latency"] = ", ".join(f"{name} {latency[name]:.2f} ms" for name in PERCENTS) + said
    elif said:
        lines["latency"] = f"no action in time{said}"
    if figures["restarts"]:
        lines["began anew"] = ", ".join(f"{count} {reason}" for reason, count in figures["restarts"].items())
    if figures["unseen"]:
        lines["unseen ticks"] = ", ".join(f"{count} {reason}" for reason, count in figures["unseen"].items())
    if figures["episode_id"]:
        lines["episode"] = figures["episode_id"]
    if figures.get("gif"):
        lines["film"] = figures["gif"]
    return "\n".join(f"{name:<15} {text}" for name, text in lines.items())


def _said(latency: dict[str, Any] | None) -> str:
    """Which latency that was, where it was in simulated time."""
    if latency is None:
        return ""
    budget = "" if latency["budget_ms"] is None else f", budget {latency['budget_ms']:g} ms"
    return f" ({latency['condition']}, {latency['kind']}, in simulated time{budget})"
