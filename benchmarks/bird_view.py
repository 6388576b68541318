"""python -m benchmarks.bird_view [--actors 100 --ticks 600]: what CARLA's observers cost per tick, without a simulator.

A car drives through a town of crossing streets among standing cars and walkers; prints the time that one tick takes for
bird's eye views in both layouts, one of them also from a raster of the town, and for beams. All runs in one thread, and
what is read of an actor are carla's own objects, as with a simulator.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

import numpy as np

from benchmarks.speed.street_grid import LENGTH_M, DrivingEgo, make_actors, make_map, make_route, ticks
from benchmarks.support.command_line import parser_of
from benchmarks.support.percentiles import median, p99
from benchmarks.support.table import Column, Table
from carla_agent.observers.beams import Beams
from carla_agent.observers.bird_layouts import CARL, ROACH
from carla_agent.observers.bird_view import BirdView
from carla_agent.observers.observer import Observer
from carla_agent.observers.town_raster import TownRaster

TABLE = Table("", 36, (Column("made, ms", 10, ".0f"), Column("p50 ms", 10, ".2f"), Column("p99 ms", 10, ".2f")))
WARM = 40
"""Ticks that are not measured, while histories fill. Tiles of the beams' raster are painted on the way."""


def main() -> int:
    parser = parser_of(__doc__)
    parser.add_argument("--actors", type=int, default=100, help="cars and walkers in the town (default %(default)s)")
    parser.add_argument("--ticks", type=int, default=600, help="that are measured (default %(default)s)")
    options = parser.parse_args()
    the_map, ego = make_map(), DrivingEgo()
    actors = make_actors(the_map, options.actors)
    makers: dict[str, Callable[[], Observer]] = {
        "BirdView, Roach, 15 × 192 × 192": lambda: BirdView(ego, the_map, lambda: actors, ROACH, make_route()),
        "BirdView, CaRL, 10 × 256 × 256": lambda: BirdView(ego, the_map, lambda: actors, CARL, make_route()),
        "BirdView, Roach, from a raster": lambda: BirdView(
            ego, the_map, lambda: actors, ROACH, make_route(), make_raster()
        ),
        "Beams, 12": lambda: Beams(ego, the_map, lambda: actors),
    }
    TABLE.print_heading()
    for name, make in makers.items():
        TABLE.print_row(name, *measure(make, options.ticks))
    return 0


def make_raster() -> TownRaster:
    """A raster of the size that the town would have at 5 pixels per metre, with every fifth pixel set."""
    side = int((LENGTH_M + 200) * 5)
    masks = np.random.default_rng(0).random((3, side, side)) < 0.2
    names = ("road", "lane_marking_all", "lane_marking_white_broken")
    return TownRaster(dict(zip(names, masks, strict=True)), 5.0, (-100.0, -100.0))


def measure(make: Callable[[], Observer], count: int) -> tuple[float, float, float]:
    """How long it takes to make an observer, and the median and p99 of a tick, milliseconds."""
    began = time.perf_counter()
    observer = make()
    made, took = time.perf_counter() - began, []
    for tick in ticks(WARM + count):
        began = time.perf_counter()
        observer.observe(tick)
        took.append(1000 * (time.perf_counter() - began))
    return 1000 * made, median(took[WARM:]), p99(took[WARM:])


if __name__ == "__main__":
    sys.exit(main())
