"""Checks how large a zip archive would become before anything is unpacked: megabytes may become gigabytes."""

from __future__ import annotations

import math
import zipfile
from pathlib import Path
from typing import IO

from carla_mlflow.errors import ExportError

MAX_GROWTH = 50
"""The largest ratio of unpacked to packed size: that of weights is near 1, that of settings in JSON some 20."""
FREE_BYTES = 64 << 20
"""Any archive may unpack to this size, however small it is: a blank image in the settings compresses a thousandfold."""
MAX_NESTED = 2
"""The deepest nesting of archives: Stable-Baselines3's zip contains PyTorch's."""


def check_growth(path: Path) -> None:
    """Checks the unpacked size of a zip archive, and of those inside it, by their directories.

    Raises:
        ExportError: it would become too large, or archives are nested too deeply.
        zipfile.BadZipFile, OSError, ValueError, RuntimeError, NotImplementedError: it can't be read as a zip.
    """
    size = path.stat().st_size
    most = max(FREE_BYTES, MAX_GROWTH * size)
    with open(path, "rb") as file:
        unpacked = _unpacked(file, most, MAX_NESTED)
    if unpacked > most:
        raise ExportError(
            f"{path.name}: {size / 1e6:,.1f} MB would become {unpacked / 1e6:,.0f} MB or more when unpacked; "
            f"at most {most / 1e6:,.0f} MB are allowed, so nothing was unpacked. No trainer writes such a file"
        )


def _unpacked(file: IO[bytes], most: int, nested: int) -> float:
    """Bytes of all members of an archive and of the archives in it; stops adding beyond `most`."""
    with zipfile.ZipFile(file) as archive:
        total: float = sum(member.file_size for member in archive.infolist())
        for member in archive.infolist():
            if total > most:
                return total
            with archive.open(member) as inner:
                if not zipfile.is_zipfile(inner):
                    continue
                if nested == 0:
                    return math.inf
                inner.seek(0)
                total += _unpacked(inner, most, nested - 1)
    return total
