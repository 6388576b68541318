"""Imports point at the core, wing by wing and without a circle; importing the core costs nothing that is not used."""

from __future__ import annotations

import ast
import functools
import importlib
import subprocess
import sys
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = {  # → the packages whose parts it may import, all of them
    "carla_mlflow": (),
    "registry": ("carla_mlflow",),
    "training_export": ("carla_mlflow",),
    "serve": ("carla_mlflow", "registry"),
    "carla_agent": ("carla_mlflow",),
}
WINGS = {  # from the ground up: a row imports only from rows before it, and a wing from itself
    "carla_mlflow": [
        ("errors", "escaping", "build", "extras", "lazy_names", "exit_codes", "interrupt", "collector"),
        ("own_process", "contract"),
        ("artifact", "client", "latency", "differences"),
        ("report",),
        ("preprocessing",),
        ("backends",),
        ("inference",),
        ("flavor",),
        ("progress_lines",),
        ("look",),
        ("command_parser", "cli"),
        ("completion",),
        ("testing",),
        ("__init__",),
    ],
    "registry": [
        ("rules", "gates"),
        ("store",),
        ("checks",),
        ("pages",),
        ("moves",),
        ("commands",),
        ("__main__", "__init__"),
    ],
    "training_export": [
        ("racetrack", "graphs"),
        ("training",),
        ("sources",),
        ("evaluation", "export"),
        ("evaluate_command", "export_flags"),
        ("export_command", "log_evidence_command"),
        ("__main__", "__init__"),
    ],
    "serve": [
        ("errors", "limits", "run_folder", "shared_memory", "folder_lock", "cores", "baked", "probe"),
        ("settings",),
        ("flag_groups",),
        ("flags", "codecs", "telemetry", "bake"),
        ("policy", "kept_process"),
        ("answering", "following", "score"),
        ("record",),
        ("replay",),
        ("shadow",),
        ("wire",),
        ("batching", "web"),
        ("dispatcher",),
        ("process", "cluster"),
        ("__main__", "__init__", "ray_app"),
    ],
    "carla_agent": [
        ("observers", "drive_record", "agent_config", "thin_client"),
        ("contract_check",),
        ("driver", "agent_observers"),
        ("drive", "route_agent"),
        ("leaderboard_agent",),
        ("__main__", "__init__"),
    ],
}


def module_of(file: Path) -> str:
    return ".".join(file.relative_to(ROOT).with_suffix("").parts)


FILES = {module_of(file): file for package in PACKAGES for file in sorted((ROOT / package).rglob("*.py"))}


@functools.cache
def imports_of(module: str) -> frozenset[str]:
    """Our modules that one imports anywhere in its file, for types too; `a.b.__init__` for a package."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(FILES[module].read_text())):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            above = module.split(".")[: -node.level] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            names = [part for alias in node.names for part in (f"{base}.{alias.name}", base)]
        else:
            continue
        found |= {name if name in FILES else f"{name}.__init__" for name in names} & FILES.keys()
    return frozenset(found - {f"{module.split('.')[0]}.__init__"} - {module})


def place_of(module: str) -> tuple[str, int, str]:
    """Package, row and wing of a module."""
    package, wing = module.split(".")[:2]
    rows = [number for number, row in enumerate(WINGS[package]) if wing in row]
    return package, rows[0] if rows else -1, wing


def arrows() -> Iterator[tuple[str, str]]:
    return ((module, imported) for module in FILES for imported in sorted(imports_of(module)))


def test_every_file_lies_in_a_wing_of_the_table_and_every_wing_is_there():
    there = {place_of(module)[::2] for module in FILES}
    table = {(package, wing) for package, rows in WINGS.items() for row in rows for wing in row}
    assert there == table


def test_a_wing_imports_only_what_lies_below_it():
    wrong = []
    for module, imported in arrows():
        package, row, wing = place_of(module)
        other, below, of = place_of(imported)
        allowed = below < row or of == wing if package == other else other in PACKAGES[package]
        wrong += [] if allowed else [f"{module} imports {imported}"]
    assert wrong == []


def test_no_circle_leads_from_a_file_back_to_itself():
    TopologicalSorter({module: imports_of(module) for module in FILES}).prepare()  # raises CycleError, which names it


def test_the_core_imports_itself_by_relative_imports_only():
    # It travels inside an MLflow model under another name, where `import carla_mlflow` would find other code.
    for module, file in FILES.items():
        for node in ast.walk(ast.parse(file.read_text())) if module.startswith("carla_mlflow.") else ():
            if isinstance(node, ast.Import):
                assert all(alias.name.partition(".")[0] not in PACKAGES for alias in node.names), file
            elif isinstance(node, ast.ImportFrom):
                assert node.level or (node.module or "").partition(".")[0] not in PACKAGES, file


@pytest.mark.parametrize(
    ("statement", "unwanted"),
    [
        ("import carla_mlflow", ["mlflow", "flask", "sklearn", "torch", "pandas", "numpy"]),
        ("from carla_mlflow import PolicyClient", ["mlflow", "flask", "sklearn", "torch", "pandas"]),
        ("import serve.__main__", ["mlflow", "sklearn", "torch", "pandas", "prometheus_client"]),
        ("import serve.cluster.node", ["prometheus_client"]),
        ("import serve.web.app", ["mlflow", "sklearn", "torch", "pandas"]),
    ],
)
def test_an_import_loads_nothing_heavy(statement: str, unwanted: list[str]):
    code = f"{statement}; import sys; print([name for name in {unwanted} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_only_the_store_calls_mlflow_client():
    assert [module for module, file in FILES.items() if "MlflowClient" in file.read_text()] == ["registry.store.client"]


@pytest.mark.parametrize("package", PACKAGES)
def test_every_name_that_a_package_offers_is_there_and_listed(package: str):
    module = importlib.import_module(package)
    assert module.__all__ == sorted(module.__all__)
    assert set(module.__all__) <= set(dir(module))
    for name in module.__all__:
        assert getattr(module, name) is not None
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        _ = module.nothing


def test_the_core_offers_every_error_that_it_raises():
    import carla_mlflow
    from carla_mlflow import errors

    assert {name for name, value in vars(errors).items() if isinstance(value, type)} <= set(carla_mlflow.__all__)
