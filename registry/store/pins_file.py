"""PINS, read again and again: while it is rewritten nothing is taken back, while it is gone nothing new is taken."""

from __future__ import annotations

import time
from pathlib import Path

from carla_mlflow.errors import RefusedError
from registry.rules.pins import PINS, parse_pins
from registry.store.subfolder import read_plain

MAX_PINS_BYTES = 1 << 20


class PinsFile:
    """The file PINS of one folder.

    Attributes:
        lines: version → digest, the pins in force; None if there was no file.
        is_settled: whether the file has been unchanged for `settle_s`.
        is_expected: whether it was there before, in this process or in one before it.
    """

    def __init__(self, folder: Path, settle_s: float) -> None:
        """Reads nothing yet.

        Args:
            folder: that holds it.
            settle_s: seconds between two equal reads after which a line that is gone holds no longer.
        """
        self._path, self._settle_s = folder / PINS, settle_s
        self._last: dict[str, str] | None = None
        self._changed_at = 0.0
        self.lines: dict[str, str] | None = None
        self.is_settled = True
        self.is_expected = False

    def read(self) -> None:
        """Reads it again.

        Raises:
            RefusedError: it can't be read, or is gone although it was there before.
        """
        found, now = self._parsed(), time.monotonic()
        if found != self._last:
            self._last, self._changed_at = found, now
        if found is None:
            if self.is_expected:
                raise RefusedError(f"{PINS} is gone; until it is back nothing new is taken")
            return
        self.is_expected = True
        self.is_settled = now - self._changed_at >= self._settle_s
        self.lines = found if self.is_settled else {**(self.lines or {}), **found}

    def holds(self, version: str, digest: str) -> bool:
        """Whether PINS allows a version at start; True if there is no file."""
        try:
            found = self._parsed()
        except RefusedError:
            return False
        return found is None or found.get(version) == digest

    def revokes(self, version: str) -> bool:
        """Whether the file is there and names the version no longer."""
        return self.lines is not None and self.is_settled and version not in self.lines

    def _parsed(self) -> dict[str, str] | None:
        try:
            return parse_pins(read_plain(self._path, MAX_PINS_BYTES).decode("utf-8-sig"))
        except FileNotFoundError as error:
            if self._path.is_symlink():
                raise RefusedError(f"{PINS} is a link to a file that is not there") from error
            return None
        except UnicodeDecodeError as error:
            raise RefusedError(f"{PINS} is not text") from error
        except OSError as error:
            raise RefusedError(f"{PINS} can't be read: {error.strerror}") from error
