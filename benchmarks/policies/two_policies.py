"""Policies with one contract and different weights, and each one's actions, by which a wrong response is detected."""

from __future__ import annotations

import functools
from pathlib import Path

import msgspec
import numpy as np
import torch

from benchmarks.policies.networks import FULL_BRAKE, UNIT, Mlp
from benchmarks.support.encoding import controls, rows_of
from carla_mlflow import Artifact, Engine, write_artifact
from carla_mlflow.artifact.artifact import seal
from carla_mlflow.contract.action_card import ActionCard
from carla_mlflow.contract.field_card import FieldCard
from training_export.export.export import export_policy
from training_export.sources.draft import CardDraft
from training_export.sources.from_module import from_network
from training_export.sources.preprocessed import Preprocessed

NAME = "follow-me"


def small_policy(version: str, seed: int, rate_hz: float = 20.0) -> Artifact:
    """An untrained 16-64-64-3 policy; its weights depend on the seed, its contract on the rate."""
    exported = _exported(seed, rate_hz)
    card = msgspec.structs.replace(exported.card, version=version)
    return seal(card, {name: exported.files[name] for name in card.files})


@functools.cache
def _exported(seed: int, rate_hz: float) -> Artifact:
    """Once a process: to export takes seconds."""
    torch.manual_seed(seed)
    section = {"state": FieldCard("float32", [16], -5.0, 5.0)}
    raw = {"throttle": (0.0, 1.0), "brake": (0.0, 1.0), "steer": UNIT}
    action = ActionCard("deterministic", raw, "throttle_brake_steer", rate_hz, FULL_BRAKE)
    trained = from_network("small", Mlp().eval(), CardDraft(), section, action, Preprocessed())
    return export_policy(trained, NAME, "1.0.0", f"seed {seed}").artifact


def write(artifact: Artifact, folder: Path) -> Path:
    """Writes an artifact below `folder`, under its version."""
    return write_artifact(folder / artifact.card.version, artifact).path


class Questions:
    """Request bodies of one to four rows, and the right actions of each version for each."""

    def __init__(self, artifacts: list[Artifact], count: int = 64) -> None:
        rng, specs = np.random.default_rng(0), artifacts[0].card.observation_spec
        batches = [{spec.name: spec.sample(rng, 1 + number % 4) for spec in specs} for number in range(count)]
        self.bodies = [msgspec.json.encode({"observations": rows_of(batch)}) for batch in batches]
        self._answers = {}
        for artifact in artifacts:
            engine = Engine(artifact, "cpu")
            self._answers[artifact.digest] = [engine.act(batch).control for batch in batches]

    def is_right(self, index: int, answer: dict) -> bool:
        """Whether a response's actions are bit for bit those of the artifact whose digest it names."""
        return controls(answer["actions"]).tobytes() == self._answers[answer["digest"]][index].tobytes()
