"""A folder of artifacts in the place of a registry: its subfolders are versions, perhaps pinned by the file PINS.

    policies/PINS            optional: which versions may drive, and the digest of each
    policies/mine-1.4.2/     an artifact of the policy `mine`; or policies/v1.4.2/

A subfolder is a version once its files are all there and match its card. Until then it is waited for, since somebody
may be copying it, as long as anything in it changes. Nothing is written here.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from carla_mlflow.artifact.artifact import open_artifact, write_artifact
from carla_mlflow.contract.strict_yaml import CARD_NAME
from carla_mlflow.errors import NotFoundError, RefusedError, RegistryError, UnreachableError
from registry.rules.pins import PINS, parse_pins
from registry.rules.policy_version import PolicyVersion
from registry.rules.reference import Reference
from registry.rules.versions import matching, ordered
from registry.store.subfolder import (
    FolderVersion,
    Seen,
    Signature,
    look,
    name_in_card,
    read_plain,
    signature_of,
    split_name,
)

PATIENCE_S = 60.0
"""Seconds without any change after which an incomplete subfolder is no longer waited for."""
MAX_PINS_BYTES = 1 << 20
MAX_NAMED = 10
"""The most versions that a message names, and the most unusable ones that are reported."""


class NotYetError(RegistryError):
    """No version that the reference means can be used now; with another change of the folder one may be."""


@dataclass(frozen=True)
class Unusable:
    """Why a subfolder is not taken for a version.

    Attributes:
        version: semantic version, as its name says.
        subfolder: its name.
        reason: a message without paths of this machine.
        waits: whether it may still be on its way.
    """

    version: str
    subfolder: str
    reason: str
    waits: bool = False

    def __str__(self) -> str:
        return f"{self.subfolder} {'is waited for' if self.waits else 'is refused'}: {self.reason}"


class ArtifactFolder:
    """The versions in one folder.

    Attributes:
        unusable: the subfolders above the version that was resolved last, highest first, that are none.
        pins: version → digest, as read last; None without the file PINS.
    """

    def __init__(self, folder: str, patience_s: float = PATIENCE_S) -> None:
        """Reads nothing yet.

        Args:
            folder: its path, with a slash at its end.
            patience_s: see PATIENCE_S.
        """
        self._folder, self._patience_s = folder, patience_s
        self.unusable: list[Unusable] = []
        self.pins: dict[str, str] | None = None
        self._seen: dict[str, Seen] = {}
        self._names: dict[str, tuple[Signature, str]] = {}
        self._paths: dict[str, Path] = {}

    def resolve(self, reference: Reference) -> FolderVersion:
        """The highest version that a reference means now, of those that are complete, and pinned where there are PINS.

        Raises:
            RefusedError: the reference is an alias, or no range.
            NotFoundError: no subfolder has such a version.
            NotYetError: one has, but it can't be used; says why.
            UnreachableError: the folder can't be read.
        """
        self.unusable = []
        there = self._subfolders()
        if reference.kind == "alias":
            raise RefusedError(
                f"{reference}: a folder has no stages and no aliases, only versions; {self._listed(there)}; "
                f"name one of them, or a range such as {reference.name}@^1.2"
            )
        exact = [reference.value] if reference.value in there else []
        wanted = exact if reference.kind == "version" else matching(reference.value, there)
        if not wanted:
            raise NotFoundError(f"{reference}: there is no such {reference.kind}; {self._listed(there)}")
        problem = self._problem_of_all(there)
        for version in reversed(wanted):
            found = Unusable(version, there[version][0], problem) if problem else self._find(version, there[version])
            if isinstance(found, FolderVersion):
                self._paths[found.digest] = Path(found.folder)
                return found
            if len(self.unusable) < MAX_NAMED:
                self.unusable.append(found)
        raise NotYetError("; ".join(map(str, self.unusable[:1] if problem else self.unusable)))

    def fetch(self, version: PolicyVersion, folder: Path) -> Path:
        """Copies a version into a new folder: what is written there are the bytes that were verified."""
        return write_artifact(folder, open_artifact(self._paths[version.digest], version.digest)).path

    def _subfolders(self) -> dict[str, list[str]]:
        """Version → the names of its subfolders; there should be one."""
        found: dict[str, list[str]] = {}
        try:
            with os.scandir(self._folder) as entries:
                for entry in sorted(entries, key=lambda entry: entry.name):
                    _, version = split_name(entry.name)
                    if version and entry.is_dir():
                        found.setdefault(version, []).append(entry.name)
        except OSError as error:
            raise UnreachableError(f"{self._folder}: can't be read: {error.strerror}") from error
        there = {name for names in found.values() for name in names}
        self._seen = {name: seen for name, seen in self._seen.items() if name in there}
        self._names = {name: known for name, known in self._names.items() if name in there}
        return found

    def _listed(self, there: dict[str, list[str]]) -> str:
        if not there:
            return f"{self._folder} has no subfolder such as name-1.4.2 or v1.4.2"
        versions = ordered(there)
        older = [f"{len(versions) - MAX_NAMED} older ones"] if len(versions) > MAX_NAMED else []
        return f"{self._folder} has {', '.join(older + versions[-MAX_NAMED:])}"

    def _problem_of_all(self, there: dict[str, list[str]]) -> str:
        """Why none of the versions may be taken; empty if some may."""
        try:
            self.pins = _read_pins(Path(self._folder) / PINS)
        except RefusedError as error:
            return str(error)
        first: dict[str, str] = {}
        for subfolder in (name for names in there.values() for name in names):
            first.setdefault(self._policy_of(subfolder), subfolder)
        first.pop("", None)
        mixed = ", ".join(f"{name} ({subfolder})" for name, subfolder in sorted(first.items())[:MAX_NAMED])
        return f"the folder holds more than one policy: {mixed}; give each its own" if len(first) > 1 else ""

    def _policy_of(self, subfolder: str) -> str:
        """The policy's name by the subfolder's name, else by its card; empty if neither says it yet."""
        name, _ = split_name(subfolder)
        path = Path(self._folder) / subfolder
        if name:
            return name
        try:
            signature = signature_of(path, [CARD_NAME])
            if subfolder not in self._names or self._names[subfolder][0] != signature:
                self._names[subfolder] = signature, name_in_card(path)
        except OSError:
            return ""
        return self._names[subfolder][1]

    def _find(self, version: str, subfolders: list[str]) -> FolderVersion | Unusable:
        first = subfolders[0]
        if len(subfolders) > 1:
            return Unusable(version, first, f"{' and '.join(subfolders)} are both version {version}")
        if self.pins is not None and version not in self.pins:
            return Unusable(version, first, f"{PINS} has no line for {version}")
        path = Path(self._folder) / first
        seen = self._seen[first] = look(path, self._seen.get(first), self._patience_s)
        found = seen.version
        if found is None:
            return Unusable(version, first, seen.problem, seen.waits(self._patience_s))
        name, _ = split_name(first)
        if found.semver != version:
            return Unusable(version, first, f"its card says version {found.semver}")
        if name not in ("", found.name):
            return Unusable(version, first, f"its card says that it is {found.name}")
        if self.pins is not None and self.pins[version] != found.digest:
            return Unusable(version, first, f"it is {found.digest}, but {PINS} says {self.pins[version]}")
        return found


def _read_pins(path: Path) -> dict[str, str] | None:
    try:
        return parse_pins(read_plain(path, MAX_PINS_BYTES).decode())
    except FileNotFoundError:
        return None
    except UnicodeDecodeError as error:
        raise RefusedError(f"{PINS} is not text") from error
    except OSError as error:
        raise RefusedError(f"{PINS} can't be read: {error.strerror}") from error
