"""Which extra of this package installs a missing module, read from the package's own metadata."""

from __future__ import annotations

import importlib.metadata
import re
from collections.abc import Iterator

PACKAGE = "carla-mlflow"
OTHER_NAMES = {"mlflow": "mlflow-skinny", "pythonjsonlogger": "python-json-logger", "sklearn": "scikit-learn"}
"""Module → the distribution that contains it, where their names differ."""


def how_to_install(error: ModuleNotFoundError, extra: str) -> str | None:
    """How to install a missing module; None when no extra of this package installs it.

    Args:
        error: raised by the import.
        extra: the extra that the command needs, preferred when several install the module.
    """
    module = (error.name or "").partition(".")[0]
    try:
        brought = {name: set(_distributions(name)) for name in _extras()}
    except importlib.metadata.PackageNotFoundError:  # run from a folder, without being installed
        return None
    wanted = _normal(OTHER_NAMES.get(module, module))
    extras = [name for name, distributions in brought.items() if wanted in distributions]
    if not extras:
        return None
    chosen = extra if extra in extras else min(extras, key=lambda name: len(brought[name]))
    return f"needs {module}, which is not installed: pip install '{PACKAGE}[{chosen}]'"


def _extras() -> list[str]:
    return importlib.metadata.metadata(PACKAGE).get_all("Provides-Extra") or []


def _distributions(extra: str) -> Iterator[str]:
    """The distributions that an extra installs, directly or through other extras."""
    for requirement in importlib.metadata.requires(PACKAGE) or []:
        name, _, marker = requirement.partition(";")
        if not re.search(rf"extra == ['\"]{extra}['\"]", marker):
            continue
        distribution, inner = re.match(r"([A-Za-z0-9._-]+)(?:\[([^\]]*)\])?", name.strip()).groups()  # type: ignore[union-attr]
        if _normal(distribution) != PACKAGE:
            yield _normal(distribution)
        else:
            for other in inner.split(","):
                yield from _distributions(other.strip())


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
