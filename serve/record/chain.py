"""Verifies a node's files by their chain of hashes, and names the file that is damaged, missing or too many."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from serve.record.file_info import RecordedFile, RecordingError, file_hash, read_file_info
from serve.record.head_file import HEAD, Head, read_head


class Damage(NamedTuple):
    """A file that is not as it was written.

    Attributes:
        path: of the file, or of where its chain says that it was.
        problem: what is wrong, in words.
    """

    path: Path
    problem: str


def recorded_paths(node: Path) -> list[Path]:
    """The finished files of a node's folder, in order of their names, which is about that of time."""
    return sorted(path for path in node.glob("*/*.parquet") if not path.name.startswith("."))


def readable(paths: Iterable[Path]) -> tuple[list[RecordedFile], list[Damage]]:
    """The files whose footers can be read, and the others."""
    found, damages = list[RecordedFile](), list[Damage]()
    for path in paths:
        try:
            found.append(read_file_info(path))
        except RecordingError as error:
            damages.append(Damage(path, str(error).removeprefix(f"{path}: ")))
    return found, damages


def without_replaced(files: Iterable[RecordedFile]) -> list[RecordedFile]:
    """The files whose rows do not stand in a merged file as well, as for a moment while files are merged."""
    every = list(files)
    replaced = {number for file in every for number in file.info.replaces}
    return [file for file in every if file.info.number not in replaced]


def verify_node(node: Path) -> list[Damage]:
    """Reads every file of a node; returns what is wrong, nothing where every bit is as it was written.

    A file is held against its hash in HEAD, and against the link in the footer of the file after it, if that one is as
    HEAD says; without HEAD, which may be lost, against that link alone. The writer may go on meanwhile: a file that is
    merged or deleted while this reads is not wrong.

    Args:
        node: the folder of one node.
    """
    files, damages = readable(recorded_paths(node))
    hashes: dict[Path, str] = {}
    for file in files:
        with contextlib.suppress(FileNotFoundError):  # merged, or deleted for its age, meanwhile
            hashes[file.path] = file_hash(file.path)
    files = [file for file in files if file.path in hashes]
    head = read_head(node)  # after the files, of which it knows all
    damages = [damage for damage in damages if damage.path.exists()]
    if head is None:
        damages.append(Damage(node / HEAD, "is missing or can't be read"))
    head = head or Head()
    replaced = {number for file in files for number in file.info.replaces}
    by_path = {node / name: sha for name, sha in head.files.values()}
    intact = [file for file in files if by_path.get(file.path, hashes[file.path]) == hashes[file.path]]
    links = {file.info.number - 1: file.info.previous for file in intact}
    for file in files:
        number, known = file.info.number, by_path.get(file.path)
        if file not in intact or links.get(number, hashes[file.path]) != hashes[file.path]:
            damages.append(Damage(file.path, "its bytes are not those that were written"))
        elif known is None and number not in replaced | links.keys() and number <= head.number and file.path.exists():
            damages.append(Damage(file.path, "is no link of the chain: HEAD does not have it"))
    missing = by_path.keys() - {file.path for file in files} - {damage.path for damage in damages}
    damages += [Damage(path, "is missing") for path in sorted(missing) if not path.exists()]  # unlike a newer one
    return damages
