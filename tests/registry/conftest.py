"""A real MLflow server, and its pages in a real browser."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import registry_policies

from benchmarks.support.mlflow_server import MlflowServer
from carla_mlflow import write_artifact

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page


@pytest.fixture(scope="session")
def example(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The artifact folder of the example policy with its ONNX graph alone; see `registry_policies.example`."""
    return write_artifact(tmp_path_factory.mktemp("example") / "policy", registry_policies.example()).path


@pytest.fixture(scope="session")
def mlflow_server(start_mlflow: Callable[..., MlflowServer]) -> Iterator[MlflowServer]:
    server = start_mlflow("sqlite")
    yield server
    server.kill()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """A module's, since its driver keeps an event loop running in this thread."""
    from mlflow_ui import open_browser  # most tests here need no browser's driver

    with open_browser() as opened:
        yield opened


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    from mlflow_ui import open_page

    with open_page(browser) as opened:
        yield opened
