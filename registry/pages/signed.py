"""Tells our own descriptions from those that people wrote or changed. Pure."""

from __future__ import annotations

import hashlib
import re

MAX_LENGTH = 5000
"""The most characters that MLflow's database holds."""
_COMMENT = "<!-- carla-mlflow wrote this ({}): change it, and it stays yours -->"
_SIGNED = re.compile(r"\A(.*)\n\n" + re.escape(_COMMENT).replace(r"\{\}", "([0-9a-f]{16})") + r"\s*\Z", re.DOTALL)
SIGNATURE = 100
"""More characters than the signature has."""


def signed(text: str) -> str:
    """The text with a comment, which pages don't show, that holds its hash."""
    return f"{text}\n\n{_COMMENT.format(_hash(text))}"


def may_replace(description: str | None) -> bool:
    """Whether a description is empty, or is one of ours and unchanged."""
    text = (description or "").replace("\r\n", "\n")
    if not text.strip():
        return True
    found = _SIGNED.match(text)
    return found is not None and _hash(found[1]) == found[2]


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]
