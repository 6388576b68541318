"""How an argument names an artifact on disk: by its folder, or as a version among the folders in one."""

from __future__ import annotations

import re
from pathlib import Path

_IN_FOLDER = re.compile(r"(?P<folder>.*/)@(?P<selector>[^/@]*)", re.DOTALL)


def split_folder_reference(text: str) -> tuple[str, str] | None:
    """`policies/@^1.2` → `policies/` and `^1.2`; None for any other text.

    The form alone decides, not what is on the disk at the moment. A folder that is itself called `@1.2` is named with
    a slash at its end: `policies/@1.2/`.
    """
    found = _IN_FOLDER.fullmatch(text)
    return (found["folder"], found["selector"]) if found and not text.startswith("models:/") else None


def is_artifact_folder(text: str) -> bool:
    """Whether the text names one artifact's folder, rather than a version of a registry or of a folder of artifacts."""
    return split_folder_reference(text) is None and (Path(text).is_dir() or text.startswith((".", "/")))
