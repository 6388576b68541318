"""What a progress bar is in a log file: now and then a line."""

from __future__ import annotations

import math
import sys
import time
from typing import Any

from tqdm import tqdm

EVERY_S = 30.0
"""At most one line in this time, seconds; what is done sooner has none."""


class ProgressLines(tqdm):  # type: ignore[type-arg]  # of whatever is iterated over
    """Called as a bar is; prints to standard error, which is no terminal."""

    def __init__(self, *given: Any, **more: Any) -> None:
        self._next_at = time.monotonic() + EVERY_S
        super().__init__(*given, **{**more, "file": sys.stderr, "disable": False})

    def display(self, msg: str | None = None, pos: int | None = None) -> None:
        """Prints a line if one is due; tqdm calls it whenever it would draw the bar anew."""
        if not self.n or time.monotonic() < self._next_at:
            return
        self._next_at = time.monotonic() + EVERY_S
        print(self.line(), file=sys.stderr, flush=True)

    def line(self) -> str:
        """Such as `training: 25,600 of 100,000 steps, reward 12; 30 s, about 90 s left`."""
        done = self.format_dict
        of_total = f" of {self.total:,}" if self.total else ""
        also = f", {self.postfix}" if self.postfix else ""
        each = done["elapsed"] / max(1, self.n - self.initial)
        left = f", about {each * (self.total - self.n):.0f} s left" if self.total else ""
        return f"{self.desc.removesuffix(': ')}: {self.n:,}{of_total} {self.unit}s{also}; {done['elapsed']:.0f} s{left}"

    def close(self) -> None:
        """Ends without another line: the command says what it has done."""
        self.delay = math.inf  # what was never drawn, tqdm does not remove either
        super().close()
