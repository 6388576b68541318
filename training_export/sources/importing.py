"""Makes the author's own code importable, and says what to do about missing code."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

_OLD_GYM = "its spaces are gym's, from before gymnasium: pip install gym==0.26.2 shimmy"
REMEDIES = {"gym": _OLD_GYM, "shimmy": _OLD_GYM, "sb3_contrib": "pip install sb3-contrib"}
"""Packages with which public policies were saved, and how to install them."""


def make_importable(*folders: Path) -> None:
    """Makes modules in these folders and in the current folder importable, until the process ends.

    They come after everything that is installed, so that an author's `onnx.py` never replaces the package.
    """
    wanted = [str(folder.resolve()) for folder in (*folders, Path())]
    sys.path.extend(path for path in dict.fromkeys(wanted) if path not in sys.path)


def missing_code(error: BaseException) -> str:
    """What to do about an error from code that can't be imported here, as the end of a sentence; else nothing."""
    names = [cause.name for cause in _chain(error) if isinstance(cause, ImportError) and cause.name]
    if not names and "Missing shimmy" in str(error):
        names = ["shimmy"]
    if not names:
        return ""
    package = names[0].partition(".")[0]
    known = f"put {package}.py beside it, set PYTHONPATH to where it lies, or install the package that it is from"
    return f"; {REMEDIES.get(package, known)}"


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
