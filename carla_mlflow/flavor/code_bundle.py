"""This package's own code, as it travels inside an MLflow model.

MLflow puts a model's code folder on sys.path, and Python imports a package name once: of two models that both
carry a `carla_mlflow`, the second would run the first one's code. So the copy's name contains the hash of its
contents: equal code is shared, different code is a different package. That works because this package imports
itself by relative imports only (a test checks that).
"""

from __future__ import annotations

import hashlib
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PACKAGE = Path(__file__).parent.parent
ENTRY = """import mlflow
from {package}.flavor.pyfunc_model import PolicyModel

mlflow.models.set_model(PolicyModel())
"""


def bundle_code(folder: Path) -> tuple[Path, Path]:
    """Copies the package under its hashed name.

    Args:
        folder: an existing, empty folder.

    Returns:
        The copied package, for MLflow's `code_paths`, and the models-from-code file that imports it.
    """
    sources = sorted(source for source in PACKAGE.rglob("*.py") if source.parent.name != "testing")
    digest = hashlib.sha256()
    for source in sources:
        data = source.read_bytes()
        digest.update(f"{source.relative_to(PACKAGE)} {len(data)}\n".encode())
        digest.update(data)
    package = folder / f"carla_mlflow_{digest.hexdigest()[:12]}"
    for source in sources:
        copy = package / source.relative_to(PACKAGE)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, copy)
    entry = folder / "policy_model.py"
    entry.write_text(ENTRY.format(package=package.name))
    return package, entry


@contextmanager
def importable(package: Path) -> Iterator[None]:
    """Makes a bundled package importable inside the block, and unloads it afterwards: its folder may be removed."""
    sys.path.insert(0, str(package.parent))
    try:
        yield
    finally:
        sys.path.remove(str(package.parent))
        for name in [n for n in sys.modules if n.partition(".")[0] == package.name]:
            del sys.modules[name]
