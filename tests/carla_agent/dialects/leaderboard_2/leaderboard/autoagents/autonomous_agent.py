"""The base class of agents as leaderboard 2 has it."""

from enum import Enum

from leaderboard.envs.sensor_interface import SensorInterface
from leaderboard.utils.route_manipulation import downsample_route
from srunner.scenariomanager.timer import GameTime


class Track(Enum):
    SENSORS = "SENSORS"
    MAP = "MAP"


class AutonomousAgent:
    def __init__(self, carla_host, carla_port, debug=False):
        self.track = Track.SENSORS
        self._global_plan = self._global_plan_world_coord = None
        self.sensor_interface = SensorInterface()

    @staticmethod
    def get_ros_version():
        return -1

    def __call__(self):
        control = self.run_step(self.sensor_interface.get_data(GameTime.get_frame()), GameTime.get_time())
        control.manual_gear_shift = False
        return control

    def set_global_plan(self, global_plan_gps, global_plan_world_coord):
        chosen = downsample_route(global_plan_world_coord, 200)
        self._global_plan_world_coord = [global_plan_world_coord[index] for index in chosen]
        self._global_plan = [global_plan_gps[index] for index in chosen]
