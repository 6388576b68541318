"""The server's error codes, from `serve.errors`."""

from __future__ import annotations

from http import HTTPStatus

from reference_pages.markdown import code, table, words
from serve.errors import MEANING, STATUS


def codes() -> str:
    """A table."""
    rows = [
        [code(name), f"{status} {HTTPStatus(status).phrase}", words(MEANING[name])] for name, status in STATUS.items()
    ]
    return table(["code", "status", "meaning"], rows)
