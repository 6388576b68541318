"""What can be said of an artifact only by loading it on this machine: whether it may be, and how long it decides."""

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
from carla_mlflow.own_process import lines_of, tell
from registry.checks.verify import ToLoad

CALLS, MAX_S = 500, 2.0
"""Decisions that are timed, and for how long at most; a slow network is asked less often, but MIN_CALLS times."""
MIN_CALLS, WARM_UP = 20, 10


@dataclass(frozen=True)
class Measured:
    """An artifact as it was met here.

    Attributes:
        artifact: opened and verified; None when it can't be.
        problem: why it does not load, verify or act as it must, in one line; None when it does.
        decision_ms: p99 of one decision; None with a problem.
    """

    artifact: Artifact | None
    problem: str | None
    decision_ms: float | None


def measure_here(fetch: Callable[[], Artifact], trusted: Sequence[str] = ()) -> Measured:
    """Fetches an artifact, loads it as a server would, in a process of its own, and times its decisions there.

    Args:
        fetch: opens the artifact, verified against its pin.
        trusted: types that preprocessor.skops may hold beyond our own list.

    Raises:
        UnreachableError: the registry does not answer: that says nothing of the artifact.
    """
    artifact = None
    try:
        artifact = fetch()
        asked = ToLoad(str(artifact.path), artifact.digest, "cpu", tuple(trusted))
        [p99] = lines_of("registry.checks.latency", [msgspec.json.encode(asked).decode()])
        return Measured(artifact, None, float(p99))
    except NotFoundError as error:
        return Measured(None, one_line(error), None)
    except (RegistryError, UnreachableError):
        raise
    except CarlaMlflowError as error:
        return Measured(artifact, one_line(error), None)


def decision_ms(engine: Engine) -> float:
    """The slowest `act` of one observation in a hundred (p99), in milliseconds, warm."""
    once_ms = max(engine.warm_up(calls=WARM_UP)[WARM_UP // 2 :])
    calls = max(MIN_CALLS, min(CALLS, int(MAX_S * 1e3 / once_ms)))
    return float(np.percentile(engine.warm_up(calls=calls), 99))


def _measure(asked: ToLoad) -> Iterator[float]:
    engine = Engine(open_artifact(Path(asked.path), asked.digest), asked.device, trusted=asked.trusted)
    yield decision_ms(engine)


if __name__ == "__main__":
    sys.exit(tell(lambda: _measure(msgspec.json.decode(sys.argv[1], type=ToLoad))))
