"""Loads an artifact on this machine, in a process of its own, and measures how long one decision takes."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np

from carla_mlflow.artifact.artifact import Artifact, open_artifact
from carla_mlflow.errors import CarlaMlflowError, NotFoundError, RegistryError, UnreachableError
from carla_mlflow.escaping import one_line
from carla_mlflow.inference.engine import Engine
from carla_mlflow.own_process import values_of, write_values
from registry.checks.verify import LoadRequest

CALLS, MAX_S = 500, 2.0
"""How many decisions are timed, and for how long at most; a slow network is timed fewer times, at least MIN_CALLS."""
MIN_CALLS, WARM_UP = 20, 10


@dataclass(frozen=True)
class Measured:
    """What loading and timing an artifact on this machine found.

    Attributes:
        artifact: opened and verified; None when that failed.
        problem: why it does not load, verify or act as the trained policy did, in one line; None when it does.
        decision_ms: p99 of one decision in milliseconds; None when there is a problem.
    """

    artifact: Artifact | None
    problem: str | None
    decision_ms: float | None


def measure_here(fetch: Callable[[], Artifact], trusted: Sequence[str] = ()) -> Measured:
    """Fetches an artifact, loads it as a server would, in a process of its own, and times its decisions there.

    Args:
        fetch: opens the artifact, verified against the digest that the registry pins.
        trusted: types that preprocessor.skops may hold beside those always trusted.

    Raises:
        UnreachableError: the registry does not answer, so nothing is known of the artifact.
    """
    artifact = None
    try:
        artifact = fetch()
        request = LoadRequest(str(artifact.path), artifact.digest, "cpu", tuple(trusted))
        [p99] = values_of("registry.checks.latency", [msgspec.json.encode(request).decode()])
        return Measured(artifact, None, float(p99))
    except NotFoundError as error:
        return Measured(None, one_line(error), None)
    except (RegistryError, UnreachableError):
        raise
    except CarlaMlflowError as error:
        return Measured(artifact, one_line(error), None)


def decision_ms(engine: Engine) -> float:
    """The 99th percentile of the time of `act` on one observation, in milliseconds, after warm-up."""
    once_ms = max(engine.warm_up(calls=WARM_UP)[WARM_UP // 2 :])
    calls = max(MIN_CALLS, min(CALLS, int(MAX_S * 1e3 / once_ms)))
    return float(np.percentile(engine.warm_up(calls=calls), 99))


def _measure(request: LoadRequest) -> Iterator[float]:
    engine = Engine(open_artifact(Path(request.path), request.digest), request.device, trusted=request.trusted)
    yield decision_ms(engine)


if __name__ == "__main__":
    sys.exit(write_values(lambda: _measure(msgspec.json.decode(sys.argv[1], type=LoadRequest))))
