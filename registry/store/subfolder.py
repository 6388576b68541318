"""One subfolder of a folder of artifacts: which version its name says, and whether it holds one whole artifact."""

from __future__ import annotations

import os
import re
import stat
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from carla_mlflow.artifact.artifact import verify_artifact
from carla_mlflow.contract.strict_yaml import CARD_NAME
from carla_mlflow.contract.strict_yaml import MAX_BYTES as MAX_CARD_BYTES
from carla_mlflow.errors import ArtifactError
from carla_mlflow.escaping import one_line
from registry.rules.policy_version import PolicyVersion
from registry.rules.reference import is_name
from registry.rules.versions import is_exact

_VERSION = re.compile(r"v(?P<bare>\d.*)|(?P<name>.+?)-(?P<version>\d+\.\d+\.\d+.*)")
_NAME_OF_CARD = re.compile(rb"^name:[ \t]*['\"]?([A-Za-z0-9._-]+)[^\n]*\n", re.MULTILINE)
"""Enough of a card to see that two policies are mixed; the version that is taken is parsed as always."""

Signature = tuple[tuple[str, int, int, int, int], ...]
"""Names, inodes, sizes and times of files: changes whenever one of them does."""


@dataclass(frozen=True)
class FolderVersion(PolicyVersion):
    """One version in a folder of artifacts; it has no stage, alias or number.

    Attributes:
        folder: path of its artifact.
    """

    folder: str = ""

    @property
    def uri(self) -> str:
        return self.folder


@dataclass
class Seen:
    """What a subfolder held when it was looked at.

    Attributes:
        changed_at: when its files were first seen as they are now, on the monotonic clock.
        is_settled: whether it was read after nothing in it had changed for a while.
        version: the version that it holds; None when it is damaged, or not complete yet.
        problem: why there is none, without paths of this machine.
    """

    signature: Signature
    changed_at: float
    is_settled: bool
    version: FolderVersion | None = None
    problem: str = ""

    def waits(self, patience_s: float) -> bool:
        """Whether it may still be on its way: something in it has changed within `patience_s`."""
        return self.version is None and time.monotonic() - self.changed_at < patience_s


def split_name(subfolder: str) -> tuple[str, str]:
    """`mine-1.4.2` → `mine` and `1.4.2`; `v1.4.2` → nothing and `1.4.2`; any other name → nothing twice."""
    found = _VERSION.fullmatch(subfolder)
    if found and found["bare"] and is_exact(found["bare"]):
        return "", found["bare"]
    if found and found["version"] and is_name(found["name"]) and is_exact(found["version"]):
        return found["name"], found["version"]
    return "", ""


def look(path: Path, before: Seen | None, patience_s: float, settle_s: float = 0.0) -> Seen:
    """Verifies the artifact in a subfolder.

    What is known already is read again only after a change, while it waits, and once it has settled.

    Args:
        path: of the subfolder.
        before: what was seen there last.
        patience_s: seconds without a change after which an incomplete one is no longer waited for.
        settle_s: seconds without a change after which it is settled.
    """
    try:
        signature = signature_of(path, sorted(os.listdir(path)))
    except OSError as error:
        signature = ((error.strerror or "", 0, 0, 0, 0),)
    now = time.monotonic()
    changed_at = before.changed_at if before is not None and before.signature == signature else now
    is_settled = now - changed_at >= settle_s
    is_known = before is not None and before.changed_at == changed_at and before.is_settled == is_settled
    if before is not None and is_known and not before.waits(patience_s):
        return before  # else it is read again: a file can change twice within one step of its file system's clock
    seen = Seen(signature, changed_at, is_settled)
    try:
        seen.version = _open(path)
    except ArtifactError as error:
        seen.problem = one_line(error).replace(str(path), path.name)
    except OSError as error:
        seen.problem = f"it can't be read: {error.strerror}"
    return seen


def signature_of(path: Path, names: Sequence[str]) -> Signature:
    """The signature of some files of a folder; raises OSError.

    The change time tells of what `cp -p` and `chmod` do to a file and its modification time does not.
    """
    found = [(name, os.lstat(path / name)) for name in names]
    return tuple((name, each.st_ino, each.st_size, each.st_mtime_ns, each.st_ctime_ns) for name, each in found)


def name_in_card(path: Path) -> str:
    """The policy's name in a subfolder's card, without parsing all of it; empty when it has none; raises OSError."""
    found = _NAME_OF_CARD.search(read_plain(path / CARD_NAME, MAX_CARD_BYTES, os.O_NOFOLLOW))
    return found[1].decode() if found else ""


def read_plain(path: Path, most: int, flags: int = 0) -> bytes:
    """Reads a plain file of at most so many bytes, opened with more `flags`; a pipe is not waited for.

    Raises:
        OSError: it is something else, or larger.
    """
    opened = os.open(path, os.O_RDONLY | os.O_NONBLOCK | flags)
    with os.fdopen(opened, "rb") as file:
        if not stat.S_ISREG(os.fstat(opened).st_mode):
            raise OSError(0, "not a plain file")
        data = file.read(most + 1)
    if len(data) > most:
        raise OSError(0, f"larger than {most:,} bytes")
    return data


def _open(path: Path) -> FolderVersion:
    card, digest = verify_artifact(path)
    return FolderVersion(
        name=card.name,
        number="",
        semver=card.version,
        digest=digest,
        contract=card.contract,
        stage="",
        aliases=(),
        run_id="",
        created=(path / CARD_NAME).stat().st_mtime,
        folder=str(path.absolute()),
    )
