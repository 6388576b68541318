"""A small exported policy with a memory, made once a process, and forgeries of it."""

from __future__ import annotations

import functools

from benchmarks.policies.remembering import lstm
from carla_mlflow.artifact.artifact import Artifact, seal
from carla_mlflow.artifact.golden import Golden
from training_export.export.export import Export, export_policy


@functools.cache
def exported_lstm(version: str = "0.1.0") -> Export:
    """LSTM-64 that begins with states other than 0; a gaussian head."""
    return export_policy(lstm(), "remembering", version, "an LSTM")


def with_golden(artifact: Artifact, golden: Golden) -> Artifact:
    """The artifact with other golden rollouts, sealed anew."""
    files = {name: artifact.files[name] for name in artifact.card.files}
    return seal(artifact.card, files | {artifact.card.parity.file: golden.to_bytes()})
