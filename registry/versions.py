"""Semantic versions of policies: order, ranges. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from semantic_version import NpmSpec, Version

from carla_mlflow.errors import NotFoundError, RefusedError


def is_exact(text: str) -> bool:
    """Whether the text names one version rather than a range."""
    try:
        Version(text)
    except ValueError:
        return False
    return True


def highest_matching(wanted: str, versions: Iterable[str]) -> str:
    """The highest version in a range: `1.4.2`, `^1.4`, `~1.4.1`, `1.x`, `>=1.2,<2`.

    Pre-releases match only when the range itself names one of the same version.

    Raises:
        RefusedError: the range is not one.
        NotFoundError: no version matches.
    """
    try:
        spec = NpmSpec(wanted.replace(",", " "))
    except ValueError as error:
        raise RefusedError(
            f"{wanted!r} is neither a version nor a range such as ^1.4, ~1.4.1, 1.x or >=1.2,<2"
        ) from error
    matching = [text for text in versions if spec.match(Version(text))]
    if not matching:
        raise NotFoundError(f"no version matches {wanted}")
    return max(matching, key=Version)
