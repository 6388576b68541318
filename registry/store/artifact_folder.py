"""A folder of artifacts in the place of a registry: its subfolders are versions, perhaps pinned by the file PINS.

    policies/PINS            optional: which versions may drive, and the digest of each
    policies/mine-1.4.2/     an artifact of the policy `mine`; or policies/v1.4.2/

A subfolder is a version once its files are all there and match its card, and its name is the card's. Until then it is
waited for, since somebody may be copying it, as long as anything in it changes. Nothing is written here.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from carla_mlflow.artifact.artifact import open_artifact, write_artifact
from carla_mlflow.contract.strict_yaml import CARD_NAME
from carla_mlflow.errors import ArtifactError, NotFoundError, RefusedError, RegistryError, UnreachableError
from registry.rules.pins import PINS
from registry.rules.policy_version import PolicyVersion
from registry.rules.reference import Reference
from registry.rules.versions import matching, ordered
from registry.store.pins_file import PinsFile
from registry.store.subfolder import FolderVersion, Seen, Signature, look, name_in_card, signature_of, split_name

PATIENCE_S = 60.0
"""Seconds without any change after which an incomplete subfolder is no longer waited for."""
SETTLE_S = 1.0
"""Seconds without a change after which a server takes a subfolder that no pin names: a card that is still being written
can be a valid one."""
MAX_NAMED = 10
"""The most versions that a message names, and the most unusable ones that are reported."""


class NotYetError(RegistryError):
    """The matching versions can't be used now; that may change with the folder."""


@dataclass(frozen=True)
class Unusable:
    """Why a subfolder is not taken for a version.

    Attributes:
        version: semantic version, as its name says.
        subfolder: its name.
        reason: a message without paths of this machine.
        waits: whether it may still be on its way.
        settles: whether it is complete, and waits only until it is sure that nothing in it changes any more.
    """

    version: str
    subfolder: str
    reason: str
    waits: bool = False
    settles: bool = False

    def __str__(self) -> str:
        return f"{self.subfolder} {'is waited for' if self.waits else 'is refused'}: {self.reason}"


class ArtifactFolder:
    """The versions in one folder.

    Attributes:
        unusable: subfolders that can't be used, of versions not lower than the one last resolved; highest first, at
            most MAX_NAMED.
        pins: the file PINS.
        policy: the name that every version must have; empty for any.
    """

    def __init__(self, folder: str, patience_s: float = PATIENCE_S, settle_s: float = 0.0) -> None:
        """Reads nothing yet.

        Args:
            folder: its path, with a slash at its end.
            patience_s: see PATIENCE_S.
            settle_s: see SETTLE_S; also how long a line has to be gone from PINS.
        """
        self._folder, self._patience_s, self._settle_s = folder, patience_s, settle_s
        self.unusable: list[Unusable] = []
        self.pins = PinsFile(Path(folder), settle_s)
        self.policy = ""
        self._seen: dict[str, Seen] = {}
        self._names: dict[str, tuple[Signature, str]] = {}
        self._paths: dict[str, Path] = {}
        self._known: set[str] = set()

    @property
    def settles(self) -> bool:
        """Whether to look again soon."""
        return not self.pins.is_settled or any(each.settles for each in self.unusable)

    def knows(self, digests: Iterable[str | None]) -> None:
        """Says which artifacts need no settling time, because they were verified here before or are pinned."""
        self._known.update(filter(None, digests))

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
        if problem := self._problem_of_all(there):
            raise NotYetError(problem)
        for version in reversed(wanted):
            found = self._find(version, there[version])
            if found is not None:
                self._paths[found.digest] = Path(found.folder)
                self.knows([found.digest])
                return found
        raise NotYetError("; ".join(map(str, self.unusable)))

    def fetch(self, version: PolicyVersion, folder: Path) -> Path:
        """Copies a version into a new folder: what is written there are the bytes that were verified."""
        path = self._paths[version.digest]
        try:
            artifact = open_artifact(path, version.digest)
        except ArtifactError as error:  # clients see it
            raise type(error)(str(error).replace(str(path), path.name)) from error
        return write_artifact(folder, artifact).path

    def goes_back(self, reference: Reference, semver: str) -> bool:
        """False: a folder goes back only to lower versions."""
        return False

    def is_live(self, name: str, semver: str, digest: str) -> bool:
        """Whether the folder still has this version as it was, and PINS, where there are, its line."""
        looks = [self._look(semver, subfolder) for subfolder in self._subfolders().get(semver, [])]
        return any(isinstance(each, FolderVersion) and each.digest == digest for each in looks)

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
            self.pins.read()
        except RefusedError as error:
            return str(error)
        first: dict[str, str] = {}
        for subfolder in (name for names in there.values() for name in names):
            first.setdefault(self._policy_of(subfolder), subfolder)
        first.pop("", None)
        mixed = ", ".join(f"{name} ({subfolder})" for name, subfolder in sorted(first.items())[:MAX_NAMED])
        return f"the folder holds more than one policy: {mixed}; give each its own" if len(first) > 1 else ""

    def _policy_of(self, subfolder: str) -> str:
        """The policy's name in its card; empty if that says none yet, or another than the subfolder's name."""
        name, _ = split_name(subfolder)
        path = Path(self._folder) / subfolder
        try:
            signature = signature_of(path, [CARD_NAME])
            if subfolder not in self._names or self._names[subfolder][0] != signature:
                self._names[subfolder] = signature, name_in_card(path)
        except OSError:
            return ""
        in_card = self._names[subfolder][1]
        return in_card if name in ("", in_card) else ""

    def _find(self, version: str, subfolders: list[str]) -> FolderVersion | None:
        """The version that one of its subfolders is; the others, or all of them, are noted as unusable."""
        looks = {subfolder: self._look(version, subfolder) for subfolder in subfolders}
        found = [each for each in looks.values() if isinstance(each, FolderVersion)]
        self._note(each for each in looks.values() if isinstance(each, Unusable))
        if len(found) > 1:
            both = " and ".join(Path(each.folder).name for each in found)
            self._note([Unusable(version, subfolders[0], f"{both} are both version {version}")])
            return None
        return found[0] if found else None

    def _note(self, unusable: Iterable[Unusable]) -> None:
        self.unusable = [*self.unusable, *unusable][:MAX_NAMED]

    def _look(self, version: str, subfolder: str) -> FolderVersion | Unusable:
        """The version that a subfolder is, or why it is none."""
        pins = self.pins.lines
        if "+" in version:
            return Unusable(version, subfolder, "versions have no order by build metadata; leave the + and its end out")
        if pins is not None and version not in pins:
            return Unusable(version, subfolder, f"{PINS} has no line for {version}")
        path = Path(self._folder) / subfolder
        seen = self._seen[subfolder] = look(path, self._seen.get(subfolder), self._patience_s, self._settle_s)
        found = seen.version
        if found is None:
            return Unusable(version, subfolder, seen.problem, seen.waits(self._patience_s))
        if pins is None and not seen.is_settled and found.digest not in self._known:
            text = f"whether anything in it still changes is known after {self._settle_s:g} s"
            return Unusable(version, subfolder, text, waits=True, settles=True)
        reason = self._mismatch(found, version, subfolder)
        return Unusable(version, subfolder, reason) if reason else found

    def _mismatch(self, found: FolderVersion, version: str, subfolder: str) -> str:
        """In what a whole artifact differs from what it should be; empty if in nothing."""
        name, _ = split_name(subfolder)
        if found.semver != version:
            return f"its card says version {found.semver}"
        if name not in ("", found.name):
            return f"its card says that it is {found.name}"
        if self.policy not in ("", found.name):
            return f"it is {found.name}, and {self.policy} was served here; give each policy a folder of its own"
        if self.pins.lines is not None and self.pins.lines[version] != found.digest:
            return f"it is {found.digest}, but {PINS} says {self.pins.lines[version]}"
        return ""
