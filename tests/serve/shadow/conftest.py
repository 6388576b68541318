"""Two versions of a small policy, one of which is the other's shadow."""

from __future__ import annotations

import pytest

from benchmarks.policies.two_policies import small_policy
from carla_mlflow import Artifact, Engine


@pytest.fixture(scope="session")
def champion() -> Artifact:
    return small_policy("1.0.0", 1)


@pytest.fixture(scope="session")
def other() -> Artifact:
    """Another version, with other weights."""
    return small_policy("1.1.0", 2)


@pytest.fixture(scope="session")
def champions(champion: Artifact) -> Engine:
    """The champion, loaded."""
    return Engine(champion, "cpu")


@pytest.fixture(scope="session")
def others(other: Artifact) -> Engine:
    """The other version, loaded."""
    return Engine(other, "cpu")
