"""The car's side in CARLA: what a policy observes, how often it decides, and what the car does without an answer.

Install it with `pip install 'carla-mlflow[carla]'`. Importing this package loads nothing: each name below is imported
when it is first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from carla_mlflow.lazy_names import lazy_names

if TYPE_CHECKING:
    from .drive_record import DriveRecord
    from .driver import Driver
    from .observers.beams import Beams
    from .observers.bird_layouts import BirdLayout
    from .observers.bird_view import BirdView
    from .observers.camera import Camera
    from .observers.ego import Ego, EgoReader
    from .observers.guidance import Command, TargetPoint
    from .observers.measurements import Measurements, carl_measurements, racetrack_measurements, roach_state
    from .observers.observer import Observer, Snapshot
    from .observers.route import Route
    from .observers.sensor_feed import SensorFeed
    from .observers.town_raster import TownRaster

_HOMES = {
    "Beams": "observers.beams",
    "BirdLayout": "observers.bird_layouts",
    "BirdView": "observers.bird_view",
    "Camera": "observers.camera",
    "Command": "observers.guidance",
    "DriveRecord": "drive_record",
    "Driver": "driver",
    "Ego": "observers.ego",
    "EgoReader": "observers.ego",
    "Measurements": "observers.measurements",
    "Observer": "observers.observer",
    "Route": "observers.route",
    "SensorFeed": "observers.sensor_feed",
    "Snapshot": "observers.observer",
    "TargetPoint": "observers.guidance",
    "TownRaster": "observers.town_raster",
    "carl_measurements": "observers.measurements",
    "racetrack_measurements": "observers.measurements",
    "roach_state": "observers.measurements",
}

__all__ = [
    "Beams",
    "BirdLayout",
    "BirdView",
    "Camera",
    "Command",
    "DriveRecord",
    "Driver",
    "Ego",
    "EgoReader",
    "Measurements",
    "Observer",
    "Route",
    "SensorFeed",
    "Snapshot",
    "TargetPoint",
    "TownRaster",
    "carl_measurements",
    "racetrack_measurements",
    "roach_state",
]

__getattr__, __dir__ = lazy_names(__name__, _HOMES)
