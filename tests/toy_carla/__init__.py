"""A toy world that the real `carla.Client` 0.9.16 takes for a simulator.

    with ToyCarla(town="ring") as toy:
        client = carla.Client(toy.host, toy.port)

By hand, from the folder `tests`: `python -m toy_carla --port 2000`.
"""

from .toy_carla import ToyCarla

__all__ = ["ToyCarla"]
