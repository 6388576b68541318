"""Policies that the tests of replay share."""

from __future__ import annotations

import pytest

from benchmarks.policies.remembering import gru_of_images
from carla_mlflow import Artifact
from training_export.export.export import export_policy


@pytest.fixture(scope="session")
def seeing() -> Artifact:
    """A policy of images, with a memory."""
    return export_policy(gru_of_images(), "seeing", "1.0.0", "").artifact
