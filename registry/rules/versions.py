"""Semantic versions of policies: their order, ranges and steps. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from semantic_version import NpmSpec, Version

from carla_mlflow.errors import RefusedError

Step = Literal["major", "minor", "patch"]
STEPS: tuple[Step, ...] = ("patch", "minor", "major")


def is_exact(text: str) -> bool:
    """Whether the text names one version rather than a range."""
    try:
        Version(text)
    except ValueError:
        return False
    return True


def highest_matching(wanted: str, versions: Iterable[str]) -> str | None:
    """The highest of the versions that `matching` returns; None when there is none."""
    return next(reversed(matching(wanted, versions)), None)


def matching(wanted: str, versions: Iterable[str]) -> list[str]:
    """The versions in a range, lowest first: `1.4.2`, `^1.4`, `~1.4.1`, `1.x`, `>=1.2,<2`.

    Pre-releases match only when the range itself names a pre-release of the same version.

    Raises:
        RefusedError: the range can't be parsed.
    """
    try:
        spec = NpmSpec(wanted.replace(",", " "))
    except ValueError as error:
        raise RefusedError(
            f"{wanted!r} is neither a version nor a range such as ^1.4, ~1.4.1, 1.x or >=1.2,<2"
        ) from error
    return ordered(text for text in versions if spec.match(Version(text)))


def ordered(versions: Iterable[str]) -> list[str]:
    """Sorts versions from the lowest to the highest."""
    return sorted(versions, key=Version)


def is_lower(version: str, other: str) -> bool:
    """Whether a version comes before another."""
    return bool(Version(version) < Version(other))


def next_version(version: str, step: Step) -> str:
    """The version one step higher; for a pre-release, its own release when that is a large enough step."""
    parsed = Version(version)
    return str({"major": parsed.next_major, "minor": parsed.next_minor, "patch": parsed.next_patch}[step]())


def steps_of(version: str, versions: Iterable[str]) -> list[tuple[str, str]]:
    """The steps between a version and its neighbours, each from the lower to the higher.

    A pre-release and its release are no step apart, as a version may change until it is released. So the neighbours
    are the last versions with the next lower and the next higher numbers.
    """
    last: dict[Version, Version] = {}
    for other in sorted(map(Version, versions)):
        last[other.truncate()] = other
    own = Version(version).truncate()
    below = [(str(last[numbers]), version) for numbers in last if numbers < own][-1:]
    return below + [(version, str(last[numbers])) for numbers in last if numbers > own][:1]


def is_step_enough(old: str, new: str, required_step: Step) -> bool:
    """Whether the step from one version to a higher one is at least as large as required_step."""
    one, two = Version(old), Version(new)
    if two.major != one.major:
        taken: Step = "major"
    else:
        taken = "minor" if two.minor != one.minor else "patch"
    return STEPS.index(taken) >= STEPS.index(required_step)
