"""PINS, the file in a folder of artifacts that says which of them may drive. No input or output.

# version   digest
1.2.0       sha256:5f0c…
"""

from __future__ import annotations

import re

from carla_mlflow.errors import RefusedError
from registry.rules.versions import is_exact

PINS = "PINS"
"""The file's name."""
MAX_SHOWN = 80
"""Most characters of a wrong word that a message shows."""
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


def parse_pins(text: str) -> dict[str, str]:
    """Version → digest; what follows a `#` is a comment.

    Raises:
        RefusedError: a line is no pin, or pins a version to another digest than a line before it; names the line.
    """
    pins: dict[str, str] = {}
    for number, line in enumerate(text.splitlines(), 1):
        words = line.partition("#")[0].split()
        if not words:
            continue
        if problem := _problem(words):
            raise RefusedError(f"{PINS}: line {number}: {problem}; expected VERSION sha256:… with 64 hex digits")
        if pins.setdefault(words[0], words[1]) != words[1]:
            raise RefusedError(f"{PINS}: line {number} pins {words[0]} to another digest than a line before it")
    return pins


def _problem(words: list[str]) -> str:
    """What is wrong with the words of a line; empty if nothing is."""
    if not is_exact(words[0]):
        return f"{words[0][:MAX_SHOWN]!r} is no version"
    if len(words) != 2:
        return f"it has {len(words)} words"
    if not _DIGEST.fullmatch(words[1]):
        return f"{words[1][:MAX_SHOWN]!r} is no digest" + (": hex digits must be lower case" * _is_upper(words[1]))
    return ""


def _is_upper(word: str) -> bool:
    return _DIGEST.fullmatch(word.lower()) is not None
