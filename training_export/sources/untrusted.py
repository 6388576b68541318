"""Pickles, the one way in: read once, at export, when the user says that they trust where the file comes from.

Reading a pickle runs whatever its author put there. Nothing that this project writes is one, and nothing that
serves imports this file.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from carla_mlflow.errors import ExportError
from training_export.sources.importing import make_importable, missing_code


def demand_trust(path: Path, trusted: bool, holds: str) -> None:
    """Raises ExportError unless the user trusts the file."""
    if not trusted:
        raise ExportError(
            f"{path.name}: {holds}, and reading a pickle runs code that its author chose; "
            "--trust-pickle says that you trust where it comes from"
        )


def read_pickle(path: Path, trusted: bool) -> Any:
    """A pickled object (pickle or joblib).

    Raises:
        ExportError: nobody trusts it, it can't be read, or it needs a module that is not here.
    """
    demand_trust(path, trusted, "is a pickle")
    make_importable(path.parent)
    import joblib  # scikit-learn's own way of pickling; reads plain pickles too

    try:
        return joblib.load(path)
    except Exception as error:  # a pickle can raise anything
        said = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
        raise ExportError(f"{path.name}: can't be unpickled: {said}{missing_code(error)}") from error


def read_pickled(data: bytes) -> Any:
    """What Stable-Baselines3 pickled into the settings of a zip that is trusted already."""
    import cloudpickle  # type: ignore[import-untyped]  # what it was written with

    return cloudpickle.loads(data)
