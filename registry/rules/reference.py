"""References to policies, as people write them. Pure, but that a refusal says whether the text is a folder here.

name@production   alias                name/Production   MLflow's legacy stage
name@1.4.2        semantic version     name/7            MLflow's version number
name@^1.4         range                any of these after models:/
path/to/folder    an artifact on disk
folder/@^1.4      a version or a range among the artifacts in a folder, which needs no registry
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from carla_mlflow.artifact.naming import split_folder_reference
from carla_mlflow.errors import RefusedError
from registry.rules.lifecycle import CANARY
from registry.rules.versions import is_exact

Kind = Literal["alias", "version", "range", "stage", "number"]

JOURNAL = ".journal"
"""Suffix of the name of the registered model that holds a policy's journal."""
NAMES = "letters, digits, '.', '_' and '-', at most 128"
"""What a policy's name may hold, in words."""
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_ALIAS = re.compile(r"[A-Za-z0-9_-]{1,128}")
_LEGACY_STAGES = ("none", "staging", "production", "archived")


@dataclass(frozen=True)
class Reference:
    """A policy's name, and the way in which it names one of its versions.

    Attributes:
        name: the policy's; or the path of a folder of artifacts, which ends in a slash, as no name does.
        kind: of the selector.
        value: the selector: an alias, a version, a range, a stage or a number.
    """

    name: str
    kind: Kind
    value: str

    def __str__(self) -> str:
        return f"{self.name}{'/' if self.kind in {'stage', 'number'} else '@'}{self.value}"

    @property
    def is_folder(self) -> bool:
        """Whether it names a version among the artifacts in a folder."""
        return self.name.endswith("/")

    @property
    def shown(self) -> str:
        """The reference as clients may see it: without the path to the folder."""
        return f"{Path(self.name).absolute().name}/@{self.value}" if self.is_folder else str(self)


def is_name(name: str) -> bool:
    """Whether it can be a policy's name."""
    return _NAME.fullmatch(name) is not None


def check_name(name: str) -> str:
    """Returns the name when it can be a policy's.

    Raises:
        RefusedError: it holds more than letters, digits, '.', '_' and '-', is too long, or is a journal's.
    """
    if not is_name(name):
        raise RefusedError(f"{name!r} is not a policy's name: expected {NAMES}")
    if name.endswith(JOURNAL):
        raise RefusedError(f"{name!r} is not a policy's name: the suffix {JOURNAL} is for a policy's history")
    return name


def parse_reference(text: str) -> Reference:
    """Parses a reference, without asking the registry whether there is such a version.

    Raises:
        RefusedError: the text is no reference.
    """
    bare = text.removeprefix("models:/")
    folder = split_folder_reference(text)
    name, at, selector = bare.partition("@")
    if folder or at:
        name, selector = folder or (check_name(name), selector)
        if folder and (meant := _meant(selector)):
            raise RefusedError(f"{text!r} is no version or range in a folder; write {name}@{meant}")
        if selector and (selector[0].isdigit() or selector[0] in "^~<>="):
            return Reference(name, "version" if is_exact(selector) else "range", selector)
        if _ALIAS.fullmatch(selector):  # of a folder it is refused where its versions can be listed
            return Reference(name, "alias", selector)
    name, slash, selector = bare.rpartition("/")
    if slash and is_name(name):
        if selector.isdigit():
            return Reference(name, "number", selector)
        if selector.lower() in _LEGACY_STAGES:
            return Reference(name, "stage", selector.capitalize())
    if os.path.isdir(text):  # Path.is_dir() raises for a name that is too long, or a folder that can't be looked into
        raise RefusedError(
            f"{text!r} is a folder; expected a registered version, such as name@1.4.2: carla-registry register FOLDER "
            "registers an artifact"
        )
    raise RefusedError(
        f"{text!r} is neither a folder nor a reference such as name@production, name@1.4.2, name@^1.4, "
        "name/Production, name/7, or folder/@^1.4 for a folder of artifacts"
    )


def _meant(selector: str) -> str:
    """What was probably meant by a selector that no folder knows; empty where that is not clear."""
    if selector == "*":
        return ">=0"
    return selector[1:] if selector.startswith("v") and is_exact(selector[1:]) else ""


def shown(text: str) -> str:
    """A reference as clients may see it: without the path to a folder."""
    return parse_reference(text).shown if split_folder_reference(text) else text


def canary_of(text: str) -> str:
    """The reference to the canary of the policy that a reference names."""
    return f"{parse_reference(text).name}@{CANARY}"


def parse_registered(text: str) -> Reference:
    """As `parse_reference`, but refuses what is not in the registry: a folder has neither stages nor a history."""
    reference = parse_reference(text)
    if reference.is_folder:
        raise RefusedError(f"{text} is in a folder, which has no stages and no history; only the registry has them")
    return reference
