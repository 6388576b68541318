"""The slot: the policy that drives in this process, or the reason why none does."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from carla_mlflow.actions import Actions
from carla_mlflow.artifact import open_artifact
from carla_mlflow.card_sections import Card
from carla_mlflow.cli import one_line
from carla_mlflow.engine import Engine
from carla_mlflow.errors import CarlaMlflowError
from serve.agreed_backend import load_agreed
from serve.codecs.carla import PredictCodec
from serve.codecs.scoring import ScoringCodec
from serve.settings import Settings

if TYPE_CHECKING:
    from carla_mlflow.result_cache import ResultCache

log = logging.getLogger("serve")

WARM_UP_ROWS = (1, 8, 32)


@dataclass(frozen=True)
class Serving:
    """A policy that may drive: verified, in parity, warm; and how it came here."""

    engine: Engine
    cache: ResultCache | None
    backend_figures: dict[str, Any]
    predict: PredictCodec
    scoring: ScoringCodec
    loaded_at: float
    stage: str | None

    @property
    def act(self) -> Callable[..., Actions]:
        """`Engine.act`, or the same from memory."""
        return self.engine.act if self.cache is None else self.cache.act

    @property
    def card(self) -> Card:
        return self.engine.card

    @property
    def version(self) -> str:
        return self.engine.card.version

    @property
    def digest(self) -> str:
        return self.engine.digest


def _cache(engine: Engine, rows: int) -> ResultCache | None:
    if not rows:
        return None
    from carla_mlflow.result_cache import ResultCache

    return ResultCache(engine, rows)


class Slot:
    """Holds one Serving. Reading `serving` needs no lock: it is replaced whole."""

    def __init__(self, folder: Path) -> None:
        """Empty; `folder` is the server's own, where its workers meet."""
        self._folder = folder
        self.serving: Serving | None = None
        self.reason = "starting"
        self.registry: str | None = None
        self.warning: str | None = None
        self.draining = False
        self._loading = threading.Lock()

    def load(self, path: Path, digest: str | None, settings: Settings, stage: str | None = None) -> bool:
        """Opens, verifies, warms; only then may it drive. A failure keeps what was there and gives the reason."""
        with self._loading:
            try:
                artifact = open_artifact(path, digest)
                engine, figures = load_agreed(artifact, settings, self._folder)
                for rows in WARM_UP_ROWS:
                    engine.warm_up(rows)
                self.serving = Serving(
                    engine,
                    _cache(engine, settings.result_cache),
                    figures,
                    PredictCodec(engine.card, settings.max_batch),
                    ScoringCodec(engine.specs, settings.max_batch),
                    time.time(),
                    stage,
                )
            except CarlaMlflowError as error:
                self.reason = one_line(error).replace(str(path), path.name)  # no path of this machine on the wire
            except Exception:  # the boundary: whatever a policy can make a library raise, the server stays up
                log.exception("loading %s failed", path)
                self.reason = "the policy can't be loaded; the log says why"
            else:
                return True
            log.error("not ready: %s", self.reason)
            return False
