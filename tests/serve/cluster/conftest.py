"""One Ray cluster of one node for all tests that need no other: each takes seven seconds of CPU time to start."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import pytest
from following_support import Registry
from ray_cluster import Cluster, one_node

_running: list[tuple[Cluster, contextlib.ExitStack]] = []


@pytest.fixture(scope="module")
def cluster(filled: Registry, tmp_path_factory: pytest.TempPathFactory) -> Cluster:
    """Of one node with one core; its processes find the registry. The next module in a row goes on with it."""
    if not _running:
        stack, cache = contextlib.ExitStack(), str(tmp_path_factory.mktemp("cache"))
        environment = {"MLFLOW_TRACKING_URI": filled.server.uri, "POLICY_CACHE_DIR": cache}
        _running.append((stack.enter_context(one_node(tmp_path_factory, **environment)), stack))
    return _running[0][0]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(nextitem: pytest.Item | None) -> Iterator[None]:
    """Stops the cluster when the next test does not use it: by itself it takes CPU time, too."""
    yield
    if _running and "cluster" not in getattr(nextitem, "fixturenames", ()):
        _running.pop()[1].close()
