"""Every architecture, exported, holds the conformance kit on every backend."""

from __future__ import annotations

import functools
from collections.abc import Callable

import pytest
from tests_support import EXAMPLE

from benchmarks.policies.architectures import ARCHITECTURES
from benchmarks.policies.networks import roach_like
from carla_mlflow import Engine
from carla_mlflow.contract.backend_names import BACKENDS
from carla_mlflow.testing import CHECKS, Subject
from training_export.export.export import Export, export_policy

SMALLER = "Roach-like BEV 15×192×192"
"""Tried with a smaller image, in whose batch shapes rows may run; CaRL's is so large that each row runs alone."""
POLICIES = {name: build for name, build in ARCHITECTURES.items() if name != SMALLER} | {
    "Roach-like BEV 15×96×96": functools.partial(roach_like, 96)
}
FAST = {
    "MLP 16-64-64-3",
    "Roach-like BEV 15×96×96",
    "beta's mode",
    "several choices",
    "polynomial features outside the graph",
    "LSTM",
    "GRU of images with a table",
}
"""Those that are not slow: numbers and images, choices and quantities, with and without a memory or a preprocessor."""


@functools.cache
def exported(name: str) -> Export:
    """Once a process, as each test of the same architecture runs there."""
    return export_policy(POLICIES[name](), "conformance", "1.0.0", name)


@functools.cache
def subject_of(name: str, backend: str, device: str) -> Subject:
    export = exported(name)
    if device == "cpu" and backend == export.artifact.card.backend:
        Engine(export.artifact, device, strict=False)  # what is exported loads, and acts as trained
    # The export's own engine where it is there: a graph's batch shapes are verified at each loading, for seconds.
    engine = export.engines[backend] if device == "cpu" else Engine(export.artifact, device, backend)
    return Subject(engine, export.artifact)


@functools.cache
def subject_of_the_example(backend: str, device: str) -> Subject:
    return Subject.open(EXAMPLE, backend, device)


def device_of(request: pytest.FixtureRequest, backend: str) -> str:
    device: str = request.config.getoption("--device")
    if backend == "openvino" and device != "cpu":
        pytest.skip("OpenVINO runs on CPUs alone")
    return device


def each_architecture() -> pytest.MarkDecorator:
    def marks(name: str) -> list[pytest.MarkDecorator]:
        group = pytest.mark.xdist_group(name)
        return [group] if name in FAST else [group, pytest.mark.slow]

    return pytest.mark.parametrize("name", [pytest.param(name, marks=marks(name)) for name in POLICIES])


@each_architecture()
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_every_architecture_holds(check: Callable[[Subject], None], name: str, backend: str, request):
    check(subject_of(name, backend, device_of(request, backend)))


@each_architecture()
def test_exported_equals_trained_on_a_thousand_observations(name: str):
    export = exported(name)
    print({name: f"{difference:.1e}" for name, difference in export.differences.items()})
    assert export.rows >= 1000
    assert set(export.differences) == set(BACKENDS), export.left_out


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_the_example_holds(check: Callable[[Subject], None], backend: str, request):
    check(subject_of_the_example(backend, device_of(request, backend)))
