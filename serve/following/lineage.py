"""Which earlier versions of a reference workers may hold, for the episodes that these began."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection

from carla_mlflow.escaping import one_line
from registry.rules.versions import is_lower
from serve.run_folder import Holdable, Status

MAX_HOLDABLE = 4
"""Most earlier versions that are listed: more than a worker holds, as a worker may have refused some."""

Line = tuple[Holdable, ...]

log = logging.getLogger("serve.follow")


def line_after(before: Status, version: str, digest: str, goes_back: Callable[[], bool]) -> Line:
    """The versions that may be held once a reference has moved on to another version.

    What was left by a roll-back, or in any other way for a lower version, is not among them, nor is what came after
    the version that it went back to.

    Args:
        before: what the reference meant until now.
        version: the semantic version that it means now.
        digest: of that version.
        goes_back: whether this version was given the reference back; asked only of a higher one.
    """
    line = before.holdable
    if before.digest and before.version and is_lower(before.version, version) and not _is_back(before, goes_back):
        line = (Holdable(before.version, before.digest), *line)
    kept = {each.digest: each for each in line if each.digest != digest and is_lower(each.version, version)}
    return tuple(kept.values())[:MAX_HOLDABLE]


def _is_back(before: Status, goes_back: Callable[[], bool]) -> bool:
    """`goes_back`; True where that can't be found out."""
    try:
        return goes_back()
    except Exception as error:  # whatever MLflow raises: the move itself is carried out
        log.warning("%s is not held for its episodes: the journal can't be read: %s", before.version, one_line(error))
        return True


def still_live(line: Line, used: Collection[str], is_live: Callable[[Holdable], bool]) -> Line:
    """The versions that may still be held; only those that workers serve or hold are asked about.

    Args:
        line: the versions.
        used: the digests of what workers serve or hold.
        is_live: whether a version is neither archived nor removed.
    """
    return tuple(each for each in line if each.digest not in used or is_live(each))
