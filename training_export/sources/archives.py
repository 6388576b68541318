"""Zip archives are measured before anything in them is unpacked: a few megabytes may become gigabytes."""

from __future__ import annotations

import math
import zipfile
from pathlib import Path
from typing import IO

from carla_mlflow.errors import ExportError

MAX_GROWTH = 50
"""Times that an archive may grow: weights hardly do, and settings in JSON some twenty times."""
FREE_BYTES = 64 << 20
"""Up to this much an archive may become, however small it is: a blank image among the settings packs a thousandfold."""
MAX_NESTED = 2
"""Archives within archives: Stable-Baselines3's zip holds PyTorch's."""


def check_growth(path: Path) -> None:
    """Measures a zip archive, and those inside it, by their directories.

    Raises:
        ExportError: it would become too large, or holds archives in archives in archives.
        zipfile.BadZipFile, OSError, ValueError, RuntimeError, NotImplementedError: it is no zip that can be read.
    """
    size = path.stat().st_size
    most = max(FREE_BYTES, MAX_GROWTH * size)
    with open(path, "rb") as file:
        unpacked = _unpacked(file, most, MAX_NESTED)
    if unpacked > most:
        raise ExportError(
            f"{path.name}: {size / 1e6:,.1f} MB would become {unpacked / 1e6:,.0f} MB or more when they are unpacked; "
            f"at most {most / 1e6:,.0f} MB are taken, and nothing was unpacked. No trainer writes such a file"
        )


def _unpacked(file: IO[bytes], most: int, nested: int) -> float:
    """Bytes of all members of an archive and of the archives in it; beyond `most` it stops adding."""
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
