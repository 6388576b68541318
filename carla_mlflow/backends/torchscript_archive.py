"""Checks a TorchScript archive before torch reads it.

Loading an archive would run its `__setstate__`, which no policy needs. torch and zipfile may also read different files
from the same bytes, so the checked contents are written to a new archive, and torch gets that one.
"""

from __future__ import annotations

import io
import re
import zipfile
import zlib

from ..errors import ArtifactError

MAX_GROWTH = 50
"""The largest ratio of unpacked to packed size: torch.jit.save compresses source code only."""

_MEMBER = re.compile(
    r"[^/]+/(version|byteorder|\.format_version|\.storage_alignment|\.data/(serialization_id|version)|data\.pkl|constants\.pkl"
    r"|(data|constants|tensors)/\d+|code/__torch__(/[A-Za-z0-9_]+)*\.py(\.debug_pkl)?|traced_inputs(\.pkl|/\d+)|extra/[^/]+)"
)
"""File names as torch.jit.save writes them, in exact case: torch itself would also take CODE for code."""


def checked_archive(archive: bytes) -> bytes:
    """A new TorchScript archive of the checked contents, so that torch reads exactly these.

    Raises:
        ArtifactError: it is not a TorchScript archive, holds other files, or code that would run when loaded.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(archive)) as source:
            members = {info.filename: info for info in source.infolist()}
            _check_members(members, len(source.infolist()))
            contents = {name: source.read(name) for name in members}
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError, RuntimeError, EOFError, zlib.error) as error:
        raise ArtifactError("model.pt: not a TorchScript archive") from error
    if any(b"__setstate__" in data or b"__getstate__" in data for name, data in contents.items() if "/code/" in name):
        raise ArtifactError("model.pt: holds code that runs when it is loaded (__setstate__)")
    written = io.BytesIO()
    with zipfile.ZipFile(written, "w") as target:
        for name, data in contents.items():
            if not re.search(r"\.debug_pkl$|/traced_inputs|/extra/", name):  # a forward pass needs none of these
                target.writestr(zipfile.ZipInfo(name), data)
    return written.getvalue()


def _check_members(members: dict[str, zipfile.ZipInfo], count: int) -> None:
    strange = [name for name in members if not _MEMBER.fullmatch(name)]
    roots = {name.partition("/")[0] for name in members}
    if strange or len(roots) != 1 or len({name.lower() for name in members}) != count:
        named = ", ".join(strange[:3]) or "a file name that occurs twice"
        raise ArtifactError(f"model.pt: not a TorchScript archive as torch.jit.save writes it: {named}")
    packed, unpacked = sum(m.compress_size for m in members.values()), sum(m.file_size for m in members.values())
    if unpacked > MAX_GROWTH * packed:
        raise ArtifactError(
            f"model.pt: grows from {packed:,} to {unpacked:,} bytes when it is unpacked, more than {MAX_GROWTH}-fold"
        )
