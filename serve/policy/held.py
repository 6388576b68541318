"""Older versions that are held for a while, so that an episode that one of them began can end with it. Pure."""

from __future__ import annotations

from typing import NamedTuple

from serve.policy.serving import Serving

MAX_HELD = 2
"""Most older versions that are held for one reference: the memory of a promotion is bounded."""


class HeldVersion(NamedTuple):
    """A version that was replaced by a newer one.

    Attributes:
        serving: the policy, which still answers those who ask for it by its digest.
        until: when it is given up, by `time.monotonic`.
        ends: the same, seconds since 1970.
    """

    serving: Serving
    until: float
    ends: float


Held = tuple[HeldVersion, ...]
"""The held versions of one reference, the last replaced first."""


def held_after(held: Held, serving: Serving | None, replaced: HeldVersion | None) -> Held:
    """The held versions once `serving` is active; `replaced` is what it replaced, None if that is not to be held."""
    active = None if serving is None else serving.digest
    others = [each for each in held if each.serving.digest != active]
    if replaced is not None and replaced.serving.digest != active:
        others = [replaced, *(each for each in others if each.serving.digest != replaced.serving.digest)]
    return tuple(others[:MAX_HELD])
