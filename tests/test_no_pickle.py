"""No pickle: not in an artifact, and in the code only where it is refused."""

from __future__ import annotations

import io
import re
import zipfile
from pathlib import Path

import pytest

from carla_mlflow import open_artifact

ROOT = Path(__file__).parent.parent
PICKLE_MAGIC = (b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")


def members(name: str, data: bytes) -> list[tuple[str, bytes]]:
    """A file, or what lies in it when it is an archive."""
    if not zipfile.is_zipfile(io.BytesIO(data)):
        return [(name, data)]
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return [(f"{name}/{inner}", archive.read(inner)) for inner in archive.namelist()]


def holds_pickle(content: bytes) -> bool:
    """A pickle itself, or one behind numpy's header for an array of objects."""
    if content.startswith(b"\x93NUMPY"):
        return b"'|O'" in content[:128]
    return content.startswith(PICKLE_MAGIC)


def test_no_file_of_an_artifact_is_a_pickle_but_torchscripts_own_constants(example: Path):
    pickles = [
        inner
        for name, data in open_artifact(example).files.items()
        for inner, content in members(name, data)
        if holds_pickle(content)
    ]
    # torch.jit writes its module's attributes and constants so, and reads them without Python's unpickler.
    assert {re.sub(r"^model\.pt/[^/]+/", "", inner) for inner in pickles} <= {"data.pkl", "constants.pkl"}


def test_a_numpy_file_that_holds_objects_would_be_seen():
    import numpy as np

    buffer = io.BytesIO()
    np.savez(buffer, objects=np.array([{}], dtype=object))
    [(_, content)] = members("golden.npz", buffer.getvalue())
    assert holds_pickle(content)


AT_EXPORT = {"untrusted.py", "original_preprocessor.py"}
"""What reads pickles, behind --trust-pickle or as a record of numbers alone, before there is an artifact."""


@pytest.mark.parametrize("package", ["carla_mlflow", "training_export", "registry", "serve"])
def test_the_code_never_unpickles(package: str):
    unpickling = re.compile(
        r"\b(pickle|cloudpickle|dill)\.(load|loads|Unpickler)\(|import (cloud)?pickle|torch\.load\("
        r"|allow_pickle=True|import joblib|joblib\.\w+\("
    )
    for file in (ROOT / package).rglob("*.py"):
        if file.name in AT_EXPORT:
            assert package == "training_export"
            continue
        assert not unpickling.search(file.read_text()), file
