"""Loads a policy while another is served: it may act once it is verified, in parity with its golden rows, and warm."""

from __future__ import annotations

import functools
import importlib
import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from carla_mlflow.artifact.artifact import open_artifact
from carla_mlflow.contract.answer import answer_columns, fallback_answer
from carla_mlflow.contract.control import unstated_scales
from carla_mlflow.contract.state_token import StateTokens
from carla_mlflow.errors import CarlaMlflowError
from carla_mlflow.escaping import one_line
from carla_mlflow.inference.engine import Engine
from serve.codecs.carla import PredictCodec
from serve.codecs.inference import InferenceCodec
from serve.codecs.invocations import ScoringCodec
from serve.policy.agreed_backend import load_agreed
from serve.policy.forward_times import ForwardTimes
from serve.policy.serving import Serving
from serve.run_folder import Kind, kind_of
from serve.settings import Settings

if TYPE_CHECKING:
    from carla_mlflow.inference.result_cache import ResultCache

log = logging.getLogger("serve")

WARM_UP_ROWS = (1, 8, 32)
_BACKEND_MODULES = {"onnx": "carla_mlflow.backends.onnx_session", "openvino": "carla_mlflow.backends.openvino_model"}
"""Backend → the module that imports what it runs with; torch for the others."""


@dataclass(frozen=True)
class Failure:
    """Why a policy may not be served.

    Attributes:
        reason: a message, safe to send to clients.
        kind: category of the reason.
        wait_s: seconds until the next try; None where that is unknown.
    """

    reason: str
    kind: Kind
    wait_s: float | None = None


def import_backend(name: str) -> None:
    """Imports what a backend, or `auto`, runs with, before there is a policy to load.

    Raises:
        ImportError: it is not installed.
    """
    importlib.import_module(_BACKEND_MODULES.get(name, "torch"))


def load(path: Path, digest: str | None, settings: Settings, folder: Path) -> Serving | Failure:
    """Opens, verifies and warms up a policy; an error is returned as a Failure.

    Args:
        path: of the artifact.
        digest: that it is pinned to; None for a folder that is served unpinned.
        settings: of the server.
        folder: the server's run folder.
    """
    try:
        artifact = open_artifact(path, digest)
        engine, figures = load_agreed(artifact, settings, folder)
        for rows in WARM_UP_ROWS:
            engine.warm_up(rows)
        forward_times = ForwardTimes.measure(engine)
        cache = _cache(engine, settings.result_cache)
    except CarlaMlflowError as error:
        reason = one_line(error).replace(str(path), path.name)  # clients must not see a path of this machine
        return Failure(reason, kind_of(error))
    except Exception:  # the boundary: the server survives whatever a policy makes a library raise
        log.exception("loading %s failed", path)
        return Failure("the policy can't be loaded; the log says why", "other")
    for text in unstated_scales(engine.card.action):
        log.warning("%s: %s", engine.card.version, text)
    predict = PredictCodec(engine.card, engine.digest, settings.max_batch)
    scoring = ScoringCodec(engine.card, settings.max_batch)
    inference = InferenceCodec(engine.card, engine.digest, settings.max_batch)
    memory = engine.card.memory
    tokens = None if memory is None else StateTokens(engine.digest, memory.shapes, settings.state_key)
    if tokens is not None and not settings.state_key:
        _warn_of_no_key()
    fallback, columns = fallback_answer(engine.card.action), answer_columns(engine.card.action)
    now = time.time()
    return Serving(engine, cache, figures, predict, scoring, inference, now, forward_times, fallback, columns, tokens)


@functools.cache  # once for each process
def _warn_of_no_key() -> None:
    log.warning(
        "no POLICY_STATE_KEY: the states that clients send back are checked for damage, but anybody can forge one"
    )


def _cache(engine: Engine, rows: int) -> ResultCache | None:
    if not rows:
        return None
    from carla_mlflow.inference.result_cache import ResultCache

    return ResultCache(engine, rows)


def failure_of(error: Exception) -> Failure:
    """Returns the Failure of an unexpected error, without a path that clients must not see."""
    why = error.strerror if isinstance(error, OSError) else None
    return Failure(f"it could not be loaded: {why or type(error).__name__}", "other")


class Load:
    """A policy that is being loaded in a thread of its own, so that a load that never ends blocks nothing else."""

    def __init__(self, run: Callable[[Callable[[], None]], Serving | Failure], timeout_s: float) -> None:
        """Starts the thread.

        Args:
            run: loads the policy; calls its argument when loading begins, perhaps after a trial in another process.
            timeout_s: most seconds that loading may take.
        """
        self.outcome: Serving | Failure | None = None
        self.given_up = False
        self._run_it, self._timeout_s, self._ends = run, timeout_s, float("inf")
        self._thread = threading.Thread(target=self._run, name="load", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            outcome = self._run_it(self._begins)
        except Exception as error:  # the thread's boundary: without an outcome the error would be lost
            log.exception("a policy could not be loaded")
            outcome = failure_of(error)
        if not self.given_up:
            self.outcome = outcome

    def _begins(self) -> None:
        self._ends = time.monotonic() + self._timeout_s

    @property
    def is_over(self) -> bool:
        """Whether the thread has ended."""
        return not self._thread.is_alive()

    @property
    def is_late(self) -> bool:
        """Whether loading has taken longer than it may."""
        return self.outcome is None and time.monotonic() > self._ends
