"""What the tests of canaries share: a policy of a test's own in the registry, moved as carla-registry and the UI do."""

from __future__ import annotations

import itertools
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import mlflow
from tests_support import Server

from benchmarks.policies import bad_policies
from carla_mlflow import Artifact
from registry.moves.promotion import promote, rollback
from registry.moves.terms import GateResult, MoveOptions
from registry.rules.reference import parse_reference
from registry.store.cache import default_cache
from registry.store.store import Store
from serve.run_folder import RUN_FOLDER, WorkerState, worker_states

_numbers = itertools.count()


@dataclass
class Mine:
    """A policy that nobody else moves: 1.0.0 is in production.

    Attributes:
        name: under which it is registered.
        artifacts: its versions, MLflow's 1, 2, …
    """

    name: str
    artifacts: Sequence[Artifact]

    def promote(self, artifact: Artifact, to: str = "canary", share: float | None = None) -> None:
        """As carla-registry does, but for the gates."""
        reference, options = parse_reference(f"{self.name}@{artifact.card.version}"), MoveOptions(share=share)
        promote(Store(), reference, to, default_cache(), options, lambda *_: GateResult())

    def roll_back(self, alias: str = "canary") -> None:
        rollback(Store(), self.name, alias, default_cache(), MoveOptions(), lambda *_: GateResult())

    def point(self, artifact: Artifact, alias: str = "canary") -> None:
        """As MLflow's UI does."""
        number = str(self.artifacts.index(artifact) + 1)
        mlflow.MlflowClient().set_registered_model_alias(self.name, alias, number)

    def set_share(self, text: str) -> None:
        """As MLflow's UI does."""
        mlflow.MlflowClient().set_registered_model_tag(self.name, "canary_share", text)

    @property
    def flags(self) -> tuple[str, ...]:
        return ("--model", f"{self.name}@production", "--canary", "--poll-s", "0.5")


def publish(home: Path, *artifacts: Artifact, damaged: Artifact | None = None) -> Mine:
    """Puts the artifacts into the registry under a name of their own, without carla-registry's checks.

    Args:
        home: the MLflow server's folder.
        artifacts: the first is put into production.
        damaged: one more version, whose files are another's.
    """
    name = f"canary-{next(_numbers)}"
    for artifact in artifacts:
        bad_policies.publish(artifact, home, name)
    if damaged is not None:
        bad_policies.publish(artifacts[0], home, name, said=damaged)
    mine = Mine(name, artifacts if damaged is None else [*artifacts, damaged])
    mine.promote(artifacts[0], "production")
    return mine


def states() -> list[WorkerState]:
    """What each worker of this test's servers says of itself."""
    folders = Path(os.environ["TMPDIR"]).glob(f"{RUN_FOLDER}*")
    return [state for folder in folders for state in worker_states(folder)]


def is_canary(artifact: Artifact | None, workers: int = 1) -> bool:
    """Whether it is the canary of that many workers; None: whether none has one."""
    wanted = None if artifact is None else artifact.digest
    return [state.canary and state.canary.digest for state in states()] == [wanted] * workers


def begins(server: Server, body: bytes, episode: str) -> str:
    """The version that answers an episode's first request."""
    answer = server.post("/predict", body, **{"X-Episode-Id": episode})
    assert answer.status == 200, answer.body
    return answer.headers["x-policy-version"]


def goes_on(server: Server, body: bytes, episode: str, artifact: Artifact) -> int | str:
    """The status, or the version that answered, of a request of an episode that this version began."""
    answer = server.post("/predict", body, **{"X-Episode-Id": episode, "X-Episode-Digest": artifact.digest})
    return answer.headers["x-policy-version"] if answer.status == 200 else answer.status
