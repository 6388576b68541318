"""The only place where pickles are read: once, at export, if the user trusts where the file comes from.

Reading a pickle runs any code that its author put there. This project writes no pickles, and `serve` never imports
this module.
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
    """Reads a pickled object (pickle or joblib).

    Raises:
        ExportError: it is not trusted, can't be read, or needs a module that is not here.
    """
    demand_trust(path, trusted, "is a pickle")
    make_importable(path.parent)
    import joblib  # scikit-learn's own way of pickling; reads plain pickles too

    try:
        return joblib.load(path)
    except Exception as error:  # a pickle can raise anything
        reason = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
        raise ExportError(f"{path.name}: can't be unpickled: {reason}{missing_code(error)}") from error


def read_pickled(data: bytes) -> Any:
    """Unpickles a value from the settings in Stable-Baselines3's zip, which has to be trusted already."""
    import cloudpickle  # type: ignore[import-untyped]  # it was written with this

    return cloudpickle.loads(data)
