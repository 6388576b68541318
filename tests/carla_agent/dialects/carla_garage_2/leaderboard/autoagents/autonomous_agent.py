"""The base class of agents as carla_garage, for leaderboard 2, has it."""

from enum import Enum

from leaderboard.envs.sensor_interface import SensorInterface
from leaderboard.utils.route_manipulation import downsample_route
from srunner.scenariomanager.timer import GameTime


class Track(Enum):
    SENSORS = "SENSORS"
    MAP = "MAP"


class AutonomousAgent:
    def __init__(self, path_to_conf_file, route_index=None):
        self.track = Track.SENSORS
        self._global_plan = self._global_plan_world_coord = None
        self.sensor_interface = SensorInterface()
        self.setup(path_to_conf_file, route_index)

    def __call__(self, sensors=None):
        control = self.run_step(self.sensor_interface.get_data(GameTime.get_frame()), GameTime.get_time(), sensors)
        control.manual_gear_shift = False
        return control

    def set_global_plan(self, global_plan_gps, global_plan_world_coord):
        chosen = downsample_route(global_plan_world_coord, 200)
        self._global_plan_world_coord = [global_plan_world_coord[index] for index in chosen]
        self._global_plan = [global_plan_gps[index] for index in chosen]
