"""Checks a zip file of numpy arrays before it is read: a header may claim more data than fits into memory."""

from __future__ import annotations

import math
import zipfile

import numpy as np

_READ_HEADER = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}


def check_arrays(archive: zipfile.ZipFile, most_bytes: int) -> None:
    """Checks the sizes of all members, and the header of each .npy.

    Args:
        archive: opened for reading.
        most_bytes: the limit of all members together when unpacked.

    Raises:
        ValueError: it is too large, holds Python objects, or an array's size differs from its header.
        zipfile.BadZipFile, NotImplementedError, zlib.error and others that zipfile raises for an invalid file.
    """
    members = archive.infolist()
    size = sum(member.file_size for member in members)
    if size > most_bytes:
        raise ValueError(f"{size / 1e6:,.0f} MB when unpacked; at most {most_bytes / 1e6:,.0f} MB are allowed")
    for member in members:
        if member.filename.endswith(".npy"):
            _check_array(archive, member)


def _check_array(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> None:
    with archive.open(member) as file:
        version = np.lib.format.read_magic(file)
        if version not in _READ_HEADER:
            raise ValueError(f"{member.filename}: its .npy format is {version[0]}.{version[1]}; expected 1.0 or 2.0")
        shape, _, dtype = _READ_HEADER[version](file)
        if dtype.hasobject:
            raise ValueError(f"{member.filename}: holds Python objects, which are pickled")
        declared, held = math.prod(shape) * dtype.itemsize, member.file_size - file.tell()
        if declared != held:
            raise ValueError(f"{member.filename}: its header declares {declared:,} bytes of numbers, it holds {held:,}")
