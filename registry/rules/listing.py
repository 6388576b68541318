"""The versions of a registered model, as read at one moment: policy versions and others. Pure."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from carla_mlflow.errors import NotFoundError, NotOursError
from registry.rules.lifecycle import ALIASED, ARCHIVED
from registry.rules.policy_version import PolicyVersion, policy_version
from registry.rules.reference import NAMES, Reference, is_name
from registry.rules.versions import highest_matching, is_exact

MAX_LISTED = 10
"""The most versions that a message lists."""
UNKNOWN = "MLflow version "
"""Prefix of MLflow's number, naming a version that has no semantic version."""


@dataclass(frozen=True)
class Listed:
    """What a registered model holds.

    Attributes:
        versions: one per semantic version, oldest first; of copies that MLflow made of an artifact, the first.
        known: MLflow's number → its policy version.
        others: MLflow's numbers without a policy version: registered in MLflow's own way, so without semantic version
            and digest; or another artifact under a semantic version that is taken.
        aliases: alias → MLflow's number.
        share: the canary's, in percent; None where none is set, or what is set is no share.
        updated: when MLflow last created, deleted or moved a version, milliseconds since 1970.
    """

    versions: list[PolicyVersion]
    known: dict[str, PolicyVersion]
    others: list[str]
    aliases: Mapping[str, str]
    updated: int = 0
    share: float | None = None

    @property
    def holders(self) -> dict[str, str]:
        """Alias of ours → the semantic version that holds it; `MLflow version N` when that has none."""
        held = {alias: number for alias, number in self.aliases.items() if alias in ALIASED}
        return {a: self.known[n].semver if n in self.known else f"{UNKNOWN}{n}" for a, n in held.items()}


def listed(versions: Iterable[Any], aliases: Mapping[str, str]) -> Listed:
    """Makes a Listed from MLflow's ModelVersions, oldest first, and the model's aliases."""
    first: dict[str, Any] = {}
    same: dict[str, list[str]] = {}
    others: list[str] = []
    for version in versions:
        semver, number = version.tags.get("semver", ""), str(version.version)
        if not is_exact(semver):
            others.append(number)
        elif version.tags.get("digest") == first.setdefault(semver, version).tags.get("digest"):
            same.setdefault(semver, []).append(number)
        else:
            others.append(number)
    held: dict[str, list[str]] = {}
    for alias, number in aliases.items():
        held.setdefault(number, []).append(alias)
    known: dict[str, PolicyVersion] = {}
    for semver, numbers in same.items():
        names = [alias for number in numbers for alias in held.get(number, ())]
        known |= dict.fromkeys(numbers, policy_version(first[semver], names))
    return Listed([known[numbers[0]] for numbers in same.values()], known, others, aliases)


def choose(reference: Reference, versions: list[PolicyVersion]) -> PolicyVersion | None:
    """The version that a reference by range or by legacy stage means; None when there is none.

    Raises:
        RefusedError: the range can't be parsed.
    """
    if reference.kind == "stage":
        holders = [version for version in versions if version.legacy_stage == reference.value]
        # MLflow's page leaves the earlier version in its stage; the one without the alias was moved there last.
        moved = [version for version in holders if reference.value.lower() not in version.aliases]
        return next(reversed(moved or holders), None)
    live = {version.semver: version for version in versions if version.stage != ARCHIVED}
    highest = highest_matching(reference.value, live)
    return live[highest] if highest else None


def say_others(name: str, numbers: list[str]) -> str:
    """Says that these versions have no semantic version, and how to register the last of them."""
    which = f"version {numbers[0]}" if len(numbers) == 1 else f"versions {', '.join(numbers[-MAX_LISTED:])}"
    return (
        f"MLflow has {which} of {name} without a semantic version and digest of its own, since it was registered by "
        f"MLflow itself; if it holds a policy: {_register(name, numbers[-1])}"
    )


def say_unnamed(name: str, versions: list[PolicyVersion]) -> str | None:
    """Says that no reference can name a model with such a name, which MLflow allows; None when one can."""
    if is_name(name) or not versions:
        return None
    return (
        f"no reference can name a version of {name!r}, since a policy's name has only {NAMES}; to register it under "
        f"another name: {_register(name, versions[-1].number)}"
    )


def _register(name: str, number: str) -> str:
    """The command that registers a version that MLflow has already."""
    command = f"carla-registry register {shlex.quote(f'models:/{name}/{number}')}"
    return command if is_name(name) else f"{command} --name NAME"


def missing(reference: Reference, found: Listed) -> NotFoundError:
    """The error for a reference that means no version, or one without a semantic version."""
    meant = {"alias": found.aliases.get(reference.value), "number": reference.value}
    if (number := meant.get(reference.kind)) in found.others:
        return NotOursError(str(reference), say_others(reference.name, [str(number)]))
    described = [f"{v.semver} ({', '.join(v.aliases) or v.stage})" for v in found.versions[-MAX_LISTED:]]
    if len(found.versions) > MAX_LISTED:
        described.insert(0, f"{len(found.versions) - MAX_LISTED} older ones")
    text = (
        f"{reference}: there is no such {reference.kind}; {reference.name} has {', '.join(described) or 'no version'}"
    )
    others = f". {say_others(reference.name, found.others)}" if found.others else ""
    return NotFoundError(text + others)
