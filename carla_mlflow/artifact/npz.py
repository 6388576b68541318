"""Zip files of numpy arrays, looked at before they are read: a header may promise more than any memory holds."""

from __future__ import annotations

import math
import zipfile

import numpy as np

_READ_HEADER = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}


def check_arrays(archive: zipfile.ZipFile, most_bytes: int) -> None:
    """Looks at every member, and reads the header of each .npy.

    Args:
        archive: open.
        most_bytes: that all members together may hold.

    Raises:
        ValueError: in words, that it is too large, holds Python objects, or an array is not as large as it says.
        zipfile.BadZipFile, NotImplementedError, zlib.error and others that zipfile raises for what is no zip.
    """
    members = archive.infolist()
    size = sum(member.file_size for member in members)
    if size > most_bytes:
        raise ValueError(f"{size / 1e6:,.0f} MB unpacked; at most {most_bytes / 1e6:,.0f} MB are read")
    for member in members:
        if member.filename.endswith(".npy"):
            _check_array(archive, member)


def _check_array(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> None:
    with archive.open(member) as file:
        version = np.lib.format.read_magic(file)
        if version not in _READ_HEADER:
            raise ValueError(f"{member.filename}: an array in an unknown format")
        shape, _, dtype = _READ_HEADER[version](file)
        if dtype.hasobject:
            raise ValueError(f"{member.filename}: holds Python objects, which are pickled")
        promised = math.prod(shape) * dtype.itemsize
        if file.tell() + promised != member.file_size:
            raise ValueError(f"{member.filename}: promises {promised:,} bytes of numbers, and holds others")
