"""PINS, the file in a folder of artifacts that says which of them may drive. Pure.

# version   digest
1.2.0       sha256:5f0c…
"""

from __future__ import annotations

import re

from carla_mlflow.errors import RefusedError
from registry.rules.versions import is_exact

PINS = "PINS"
"""The file's name."""
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
        if len(words) != 2 or not is_exact(words[0]) or not _DIGEST.fullmatch(words[1]):
            raise RefusedError(f"{PINS}: line {number} is no pin such as 1.2.0 sha256:… (64 hex digits)")
        if pins.setdefault(words[0], words[1]) != words[1]:
            raise RefusedError(f"{PINS}: line {number} pins {words[0]} to another digest than a line before it")
    return pins
