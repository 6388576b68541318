"""The settings of an episode, as LibCarla lays them out (rpc/EpisodeSettings.h)."""

from __future__ import annotations

from dataclasses import astuple, dataclass
from typing import Any


@dataclass(frozen=True)
class Settings:
    """The toy world heeds `synchronous_mode`, `no_rendering_mode` and `fixed_delta_seconds`, and keeps the rest."""

    synchronous_mode: bool = False
    no_rendering_mode: bool = False
    fixed_delta_seconds: float | None = None
    substepping: bool = True
    max_substep_delta_time: float = 0.01
    max_substeps: int = 10
    max_culling_distance: float = 0.0
    deterministic_ragdolls: bool = True
    tile_stream_distance: float = 3000.0
    actor_active_distance: float = 2000.0
    spectator_as_ego: bool = True

    @classmethod
    def of(cls, wire: list[Any]) -> Settings:
        """From a client's list, in which an optional is `[False]` or `[True, value]`."""
        synchronous, unrendered, (is_set, *length), *rest = wire
        return cls(synchronous, unrendered, length[0] if is_set else None, *rest)

    def to_wire(self) -> list[Any]:
        values = list(astuple(self))
        values[2] = [False] if self.fixed_delta_seconds is None else [True, self.fixed_delta_seconds]
        return values
