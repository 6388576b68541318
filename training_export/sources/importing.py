"""Code of the author's own beside what is exported, and what to do about code that is missing."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

_OLD_GYM = "its spaces are gym's, from before gymnasium: pip install gym==0.26.2 shimmy"
REMEDIES = {"gym": _OLD_GYM, "shimmy": _OLD_GYM, "sb3_contrib": "pip install sb3-contrib"}
"""Packages that public policies were saved with, and how to get them."""


def make_importable(*folders: Path) -> None:
    """Lets modules be imported that lie in these folders, or where the command runs; until its process ends.

    After all that is installed, so that a file of the author's called `onnx.py` never stands for the package.
    """
    wanted = [str(folder.resolve()) for folder in (*folders, Path())]
    sys.path.extend(path for path in dict.fromkeys(wanted) if path not in sys.path)


def missing_code(error: BaseException) -> str:
    """What to do when an error comes of code that can't be imported here, as the end of a sentence; else nothing."""
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
