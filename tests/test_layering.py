"""Imports point at the core, and importing the core costs nothing that is not used."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
ALLOWED = {
    "carla_mlflow": set(),
    "training_export": {"carla_mlflow"},
    "registry": {"carla_mlflow"},
    "serve": {"carla_mlflow", "registry"},
}


def imported_packages(file: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            names.add((node.module or "").partition(".")[0])
    return names


@pytest.mark.parametrize("package", ALLOWED)
def test_a_package_imports_only_what_lies_below_it(package: str):
    for file in (ROOT / package).rglob("*.py"):
        ours = imported_packages(file) & ALLOWED.keys()
        assert ours <= ALLOWED[package] | ({package} if package != "carla_mlflow" else set()), file


def test_the_core_imports_itself_by_relative_imports_only():
    # It travels inside an MLflow model under another name, where `import carla_mlflow` would find other code.
    for file in (ROOT / "carla_mlflow").rglob("*.py"):
        assert "carla_mlflow" not in imported_packages(file), file


@pytest.mark.parametrize(
    ("statement", "unwanted"),
    [
        ("import carla_mlflow", ["mlflow", "flask", "sklearn", "torch", "pandas", "numpy"]),
        ("from carla_mlflow import PolicyClient", ["mlflow", "flask", "sklearn", "torch", "pandas"]),
        ("import serve.__main__", ["mlflow", "sklearn", "torch", "pandas"]),
        ("import serve.web.app", ["mlflow", "sklearn", "torch", "pandas"]),
    ],
)
def test_an_import_loads_nothing_heavy(statement: str, unwanted: list[str]):
    code = f"{statement}; import sys; print([name for name in {unwanted} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_only_the_store_calls_mlflow_client():
    users = [f for p in ALLOWED for f in (ROOT / p).rglob("*.py") if "MlflowClient" in f.read_text()]
    assert users == [ROOT / "registry" / "store.py"]


def test_every_name_that_the_core_offers_is_there():
    import carla_mlflow

    assert carla_mlflow.__all__ == sorted(carla_mlflow.__all__)
    for name in carla_mlflow.__all__:
        assert getattr(carla_mlflow, name) is not None
