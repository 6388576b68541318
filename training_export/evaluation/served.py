"""A policy behind a server as one that decides: each answer has to be of the version that is evaluated."""

from __future__ import annotations

import urllib.parse
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
from numpy.typing import NDArray

from carla_mlflow.client.client import PolicyClient
from carla_mlflow.errors import DrivingError
from carla_mlflow.inference.engine import Engine
from training_export.evaluation.episode_driver import EpisodeDriver
from training_export.racetrack.driving import Observation


class ServedDriver(EpisodeDriver):
    """Asks a server, over one kept-alive connection, and holds it to the version that is evaluated."""

    def __init__(self, client: PolicyClient, engine: Engine) -> None:
        self._client, self._digest = client, engine.digest
        self._reference = f"{engine.card.name}@{engine.card.version}"
        self._check()
        super().__init__(client)

    def decide(self, observation: Observation, budget_ms: float | None) -> NDArray[np.float32] | None:
        control = super().decide(observation, budget_ms)
        self._check()
        return control

    def _check(self) -> None:
        if self._client.digest != self._digest:
            served = f"{self._client.card.name} {self._client.version} {self._client.digest}"
            raise DrivingError(
                f"the server answers with {served}, which is not the policy that is evaluated: evaluate the version "
                f"that is served, or serve this one alone, as by carla-serve --model {self._reference}"
            )


@contextmanager
def served(url: str, engine: Engine, api_key: str) -> Iterator[ServedDriver]:
    """The driver that asks a server, connected; errors as `PolicyClient`."""
    with PolicyClient(url, api_key=api_key, expected=engine.card) as client:
        yield ServedDriver(client, engine)


def shown(url: str) -> str:
    """A URL without the user's name and password."""
    parts = urllib.parse.urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
