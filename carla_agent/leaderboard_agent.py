"""The agent for a leaderboard's evaluator: `--agent …/carla_agent/leaderboard_agent.py --agent-config agent.yaml`.

One class speaks the dialects of leaderboard 1 and 2, Bench2Drive, CaRL and carla_garage, which differ in when `setup`
is called and with what:

- leaderboard 1 calls it in the base class's constructor, before a world is there; carla_garage adds `route_index`.
- leaderboard 2 calls it after `set_global_plan`; Bench2Drive appends `+` and a name to the configuration's path.
- carla_garage's branch for leaderboard 2 calls it in the constructor and again after `set_global_plan`, with a
  `traffic_manager`; CaRL's own leaderboard calls it again at each route, and its plan has no degrees.

An evaluator imports this file by its name alone, which is why its imports are absolute.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import carla

from carla_agent.drive_record import DriveRecord
from carla_agent.route_agent import RouteAgent
from carla_mlflow import DrivingError

try:
    from leaderboard.autoagents.autonomous_agent import AutonomousAgent, Track
except ModuleNotFoundError as _error:
    raise DrivingError(
        f"no module {_error.name}: leaderboard_agent.py is loaded by a leaderboard's evaluator; put the folders of "
        "leaderboard and scenario_runner on PYTHONPATH"
    ) from _error


def get_entry_point() -> str:
    """The name of the agent's class, for the evaluator."""
    return "PolicyAgent"


class PolicyAgent(AutonomousAgent):  # type: ignore[misc]
    """Drives with the policy that its configuration names."""

    _agent: RouteAgent | None = None
    _plans: tuple[Any, Any, Any] | None = None

    def setup(self, path_to_conf_file: str, *route: Any, **more: Any) -> None:
        """Reads the configuration and checks policy, observers and rates.

        Args:
            path_to_conf_file: of the YAML file; what follows a `+` is ignored where no file has that name.
            route: whatever a dialect adds, such as a route's index.
            more: likewise, by name.

        Raises:
            CarlaMlflowError: something does not fit; the text says what.
        """
        if self._agent is not None:
            self._agent.close()
        path = Path(path_to_conf_file)
        self._agent = RouteAgent(path if path.exists() else path_to_conf_file.partition("+")[0], _Srunner())
        self.track = Track(self._agent.config.track)
        if self._plans is not None:
            self._agent.follow(*self._plans)

    @property
    def record(self) -> DriveRecord | None:
        """What happened on the current route; None without one."""
        return None if self._agent is None else self._agent.driver.record

    def sensors(self) -> list[dict[str, Any]]:
        """The configuration's sensors."""
        return [] if self._agent is None else self._agent.sensors()

    def set_global_plan(self, *plans: Any) -> None:
        """Takes the route: (degrees, world), or only the world's in CaRL's leaderboard."""
        if len(plans) > 1:
            super().set_global_plan(*plans)
            self._plans = (self._global_plan_world_coord, plans[-1], self._global_plan)
        else:
            self._plans = (None, plans[0], None)
        if self._agent is not None:
            self._agent.follow(*self._plans)

    def run_step(self, input_data: Any, timestamp: float | None = None, sensors: Any = None) -> carla.VehicleControl:
        """Decides at one tick.

        Args:
            input_data: sensor id → (frame, data); None in CaRL's leaderboard, which hands over nothing else either.
            timestamp: simulated seconds.
            sensors: carla_garage's list of the sensors' actors; not needed.
        """
        if self._agent is None:
            raise DrivingError("setup was not called")
        return self._agent.step(input_data or {}, _Srunner.seconds() if timestamp is None else timestamp)

    def destroy(self, results: Any = None) -> None:
        """Ends the route; a `setup` may follow."""
        if self._agent is not None:
            self._agent.close()
            self._agent = None


class _Srunner:
    """The simulator as scenario_runner has it."""

    def hero(self) -> Any:
        return _provider().get_hero_actor()

    def world(self) -> Any:
        return _provider().get_world()

    def road_map(self) -> Any:
        return _provider().get_map()

    @staticmethod
    def seconds() -> float:
        from srunner.scenariomanager.timer import GameTime

        return float(GameTime.get_time())


def _provider() -> Any:
    from srunner.scenariomanager.carla_data_provider import CarlaDataProvider

    return CarlaDataProvider
