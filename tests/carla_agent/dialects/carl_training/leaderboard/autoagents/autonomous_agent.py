"""The base class of agents as CaRL's own leaderboard has it: nothing is handed over but the route in the world."""

from enum import Enum

from leaderboard.envs.sensor_interface import SensorInterface


class Track(Enum):
    SENSORS = "SENSORS"
    MAP = "MAP"


class AutonomousAgent:
    def __init__(self, carla_host, carla_port, debug=False):
        self.track = Track.SENSORS
        self._global_plan = self._global_plan_world_coord = None
        self.sensor_interface = SensorInterface()

    def __call__(self, sensors=None):
        control = self.run_step(sensors)
        control.manual_gear_shift = False
        return control

    def set_global_plan(self, global_plan_world_coord):
        self.dense_global_plan_world_coord = global_plan_world_coord
        if self.config.use_sensorimotor:
            raise NotImplementedError
