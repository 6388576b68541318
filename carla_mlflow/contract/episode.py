"""What names an episode, one route of one car, whose requests belong together: its id, and which version began it."""

from __future__ import annotations

import re
import uuid

from ..errors import SpecError

EPISODE_ID = "[A-Za-z0-9._-]{1,64}"
"""The regular expression that a whole id matches."""
EXPECTED = "expected 1 to 64 characters, each a letter from A to Z, a digit, '.', '_' or '-'"

DIGEST = "sha256:[0-9a-f]{64}"
"""The regular expression that a whole digest matches; that of the first answer says which version began an episode."""
EXPECTED_DIGEST = "expected the digest of the first answer of the episode: sha256: and 64 hex digits"

_WHOLE, _WHOLE_DIGEST = re.compile(EPISODE_ID), re.compile(DIGEST)


def new_episode_id() -> str:
    """Returns an id that no other episode has: 32 random hexadecimal digits."""
    return uuid.uuid4().hex


def is_episode_id(value: object) -> bool:
    """Whether a value is an episode's id."""
    return isinstance(value, str) and _WHOLE.fullmatch(value) is not None


def is_digest(value: object) -> bool:
    """Whether a value is an artifact's digest."""
    return isinstance(value, str) and _WHOLE_DIGEST.fullmatch(value) is not None


def check_episode_id(value: str) -> str:
    """Returns the value; raises SpecError unless it is an episode's id."""
    if not is_episode_id(value):
        raise SpecError("episode_id", EXPECTED)
    return value
