"""A zip is measured by its directory before anything in it is unpacked."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import pytest

from carla_mlflow.errors import ExportError
from training_export.sources.archives import FREE_BYTES, check_growth
from training_export.sources.sb3.archive import identify


def bomb(size: int) -> bytes:
    """A zip of a few hundred kilobytes with that many zeros, written in pieces."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        with archive.open("data", "w") as member:
            for _ in range(size >> 20):
                member.write(bytes(1 << 20))
        archive.writestr("policy.pth", b"")
    return packed.getvalue()


def zipped(*contents: bytes) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for index, content in enumerate(contents):
            archive.writestr(f"{index}.pth", content)
    return packed.getvalue()


LARGE = bomb(2 * FREE_BYTES)


def test_a_zip_bomb_is_refused_before_it_is_unpacked_or_trusted(tmp_path: Path):
    path = tmp_path / "model.zip"
    path.write_bytes(LARGE)
    with pytest.raises(ExportError, match=r"model\.zip: 0\.\d MB would become 134 MB or more .* nothing was unpacked"):
        identify(path)


@pytest.mark.parametrize(
    "content",
    [zipped(LARGE), zipped(b"weights", zipped(LARGE)), zipped(zipped(zipped(zipped())))],
    ids=["once", "twice", "four times"],
)
def test_what_grows_inside_another_archive_counts_too(tmp_path: Path, content: bytes):
    path = tmp_path / "model.zip"
    path.write_bytes(content)
    with pytest.raises(ExportError, match="when unpacked"):
        check_growth(path)


def test_many_members_that_are_small_alone_count_together(tmp_path: Path):
    path = tmp_path / "model.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for index in range(5):
            archive.writestr(f"{index}", bytes(FREE_BYTES // 4))
    with pytest.raises(ExportError, match="84 MB"):
        check_growth(path)


def test_weights_and_settings_as_a_trainer_packs_them_are_taken(tmp_path: Path):
    path = tmp_path / "model.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("data", b" " * (FREE_BYTES // 2))
        archive.writestr("policy.pth", zipped(b"weights" * 1000))
        archive.writestr("note", b"ends like an archive, and is none: PK\x05\x06" + bytes(18))
    check_growth(path)
