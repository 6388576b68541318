"""A real MLflow server, and its pages in a real browser."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import pytest

from benchmarks.mlflow_server import MlflowServer

if TYPE_CHECKING:
    from playwright.sync_api import Page


@pytest.fixture(scope="module")
def mlflow_server(start_mlflow: Callable[..., MlflowServer]) -> Iterator[MlflowServer]:
    server = start_mlflow("sqlite")
    yield server
    server.kill()


@pytest.fixture
def page() -> Iterator[Page]:
    """A fresh profile each time: MLflow's UI remembers its switches."""
    from mlflow_ui import open_browser  # most tests here need no browser's driver

    with open_browser() as opened:
        yield opened
