"""Every architecture, exported, holds the conformance kit on every backend."""

from __future__ import annotations

import functools

import pytest
from policy_conformance import Conformance

from benchmarks.architectures import ARCHITECTURES
from carla_mlflow import Artifact, open_artifact
from training_export.export.export import Export, export_policy


@functools.cache
def exported(name: str) -> Export:
    """Once a process: pytest sets a fixture up again for each combination with the backends."""
    return export_policy(ARCHITECTURES[name](), "conformance", "1.0.0", name)


@pytest.fixture(
    scope="class", params=[pytest.param(name, marks=pytest.mark.xdist_group(name)) for name in ARCHITECTURES]
)
def export(request: pytest.FixtureRequest) -> Export:
    return exported(request.param)


class TestEveryArchitecture(Conformance):
    @pytest.fixture(scope="class")
    @classmethod
    def policy(cls, export: Export) -> Artifact:
        return export.artifact

    def test_exported_equals_trained_on_a_thousand_observations(self, export: Export):
        print({name: f"{difference:.1e}" for name, difference in export.differences.items()})
        assert export.rows >= 1000
        assert set(export.differences) == {"torchscript", "onnx"}, export.left_out


class TestTheExample(Conformance):
    @pytest.fixture(scope="class")
    @classmethod
    def policy(cls, example) -> Artifact:
        return open_artifact(example)
