"""Verified here are whole artifacts, with both graphs and a preprocessor."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests_support import EXAMPLE


@pytest.fixture(scope="session")
def example() -> Path:
    return EXAMPLE
