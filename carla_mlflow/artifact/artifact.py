"""The policy artifact: a folder of files that a card describes, written atomically and verified when opened.

    model_card.yaml  the contract, and the sha256 of every other file
    model.pt         TorchScript: preprocessing + network + head
    model.onnx       the same as ONNX, for ONNX Runtime or OpenVINO
    golden.npz       observations with the trained policy's answers

The artifact's digest is the sha256 of the card's bytes. Opening reads every file once, compares it with the
card (and the card with the pinned digest), and returns those same bytes: nothing is parsed before, and nothing
is read again afterwards.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path

import msgspec

from ..contract.backend_names import graph_of
from ..contract.card import Card, dump_card, parse_card
from ..contract.card_sections import FileCard
from ..contract.strict_yaml import CARD_NAME
from ..contract.strict_yaml import MAX_BYTES as MAX_CARD_BYTES
from ..errors import ArtifactError, CardError, IntegrityError
from .folder import new_folder, write_synced

MAX_FILE_BYTES = 4 << 30
"""The limit of one file. A driving policy's graph has some megabytes; a larger file is not read into memory."""


@dataclass(frozen=True)
class Artifact:
    """A verified artifact: its card, its digest, and the verified bytes of every file, the card's own too."""

    path: Path
    card: Card
    digest: str
    pinned: bool
    files: Mapping[str, bytes]

    def __repr__(self) -> str:
        graphs = " + ".join(self.backends)
        return f"<Artifact {self.card.name} {self.card.version}, {graphs}, {self.digest[:19]}…>"

    @property
    def backends(self) -> tuple[str, ...]:
        """The backends that it is for: those of its graphs, and OpenVINO where its card names that."""
        graphs = [file.backend for file in self.card.files.values() if file.backend is not None]
        return tuple(dict.fromkeys((*graphs, self.card.backend)))

    def file_of_backend(self, backend: str) -> bytes:
        """The bytes of the graph that the backend `torchscript`, `onnx` or `openvino` reads."""
        for name, file in self.card.files.items():
            if file.backend == graph_of(backend):
                return self.files[name]
        raise ArtifactError(f"{self.path}: has no graph for the backend {backend}, only for {', '.join(self.backends)}")


def sha256(data: bytes) -> str:
    """`sha256:` and 64 hex digits."""
    return "sha256:" + hashlib.sha256(data).hexdigest()


def open_artifact(path: str | Path, digest: str | None = None) -> Artifact:
    """Opens an artifact and verifies all of it.

    Args:
        path: of the folder.
        digest: the pinned digest; None trusts the card that is there.

    Raises:
        IntegrityError: a file is missing, not listed in the card, not a plain file, or differs from the card;
            or the card differs from the pinned digest. The text names the file.
        CardError: the card is invalid.
    """
    path = Path(path)
    card, card_bytes = _open_card(path, digest)
    files = {CARD_NAME: card_bytes}
    for name in card.files:
        files[name] = _read(path, name)
        _check_hash(card, name, sha256(files[name]))
    return Artifact(path, card, sha256(card_bytes), digest is not None, files)


def verify_artifact(path: Path) -> tuple[Card, str]:
    """As `open_artifact`, but holds no file in memory; returns the card and the artifact's digest."""
    card, card_bytes = _open_card(path, None)
    for name in card.files:
        with _opened(path, name) as file:
            _check_hash(card, name, "sha256:" + hashlib.file_digest(file, "sha256").hexdigest())
    return card, sha256(card_bytes)


def _open_card(path: Path, digest: str | None) -> tuple[Card, bytes]:
    """The card and its bytes, of a folder that holds what it lists and nothing else."""
    if not path.is_dir():
        registered = f"; a registered version is opened by mlflow.pyfunc.load_model('models:/{path}')"
        raise ArtifactError(f"{path}: there is no such folder{registered if '@' in path.name else ''}")
    if not os.path.lexists(path / CARD_NAME):
        folder = path.absolute().name
        raise IntegrityError(f"{CARD_NAME}: is missing, so {folder!r} is no policy artifact: carla-export makes one")
    _refuse_all_but_plain_files(path)
    card_bytes = _read(path, CARD_NAME)
    actual = sha256(card_bytes)
    if digest is not None and actual != digest:
        raise IntegrityError(f"{CARD_NAME}: its digest is {actual}, but {digest} was pinned")
    card = parse_card(card_bytes)
    extra = {entry.name for entry in path.iterdir()} - set(card.files) - {CARD_NAME}
    if extra:
        raise IntegrityError(f"{', '.join(sorted(extra))}: not listed in {CARD_NAME}")
    return card, card_bytes


def _check_hash(card: Card, name: str, actual: str) -> None:
    expected = card.files[name].sha256
    if actual != expected:
        raise IntegrityError(f"{name}: its bytes differ from {CARD_NAME}: expected {expected}, got {actual}")


def _refuse_all_but_plain_files(path: Path) -> None:
    for entry in sorted(path.iterdir()):
        mode = entry.lstat().st_mode
        if not stat.S_ISREG(mode):
            kind = "a link" if stat.S_ISLNK(mode) else "a folder" if stat.S_ISDIR(mode) else "not a plain file"
            raise IntegrityError(f"{entry.name}: is {kind}; an artifact holds plain files only")


def _read(path: Path, name: str) -> bytes:
    with _opened(path, name) as file:  # whose size is within the limit; Python reserves as much as it is told to read
        return file.read(os.fstat(file.fileno()).st_size)


def _limit(name: str) -> int:
    return MAX_CARD_BYTES if name == CARD_NAME else MAX_FILE_BYTES


@contextlib.contextmanager
def _opened(path: Path, name: str) -> Iterator[BufferedReader]:
    # O_NOFOLLOW and O_NONBLOCK: a link or fifo put here after the check above is refused, not followed or waited for.
    try:
        descriptor = os.open(path / name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError as error:
        raise IntegrityError(f"{name}: is missing") from error
    except OSError as error:
        raise IntegrityError(f"{name}: can't be read: {error.strerror}") from error
    with os.fdopen(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise IntegrityError(f"{name}: not a plain file")
        if os.fstat(descriptor).st_size > (most := _limit(name)):
            raise (CardError if name == CARD_NAME else ArtifactError)(f"{name}: larger than {most >> 20:,} MiB")
        yield file


def seal(card: Card, files: Mapping[str, bytes]) -> Artifact:
    """Makes an artifact in memory: fills the hashes of the files, and the card's own hash, into the card.

    Args:
        card: complete but for the hashes; each file's `backend` is kept.
        files: the bytes of every file in `card.files`.

    Raises:
        CardError: the card contradicts itself.
    """
    hashed = {name: FileCard(sha256(data), card.files[name].backend) for name, data in files.items()}
    card_bytes = dump_card(msgspec.structs.replace(card, files=hashed))
    return Artifact(Path(), parse_card(card_bytes), sha256(card_bytes), True, {**files, CARD_NAME: card_bytes})


def write_artifact(path: Path, artifact: Artifact) -> Artifact:
    """Writes an artifact to a temporary folder and renames it: it appears complete or not at all.

    Args:
        path: the folder to create; it must not exist.
        artifact: from `seal` or `open_artifact`.

    Returns:
        The artifact as read back from the folder.
    """
    if path.exists():
        raise ArtifactError(f"{path}: already exists; remove it or write elsewhere")
    with new_folder(path) as beside:
        for name, data in artifact.files.items():
            write_synced(beside / name, data)
    return open_artifact(path, artifact.digest)
