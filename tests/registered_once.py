"""A registry with versions in it that is made once a process, and copied for each test: to register takes a second."""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path

import mlflow
import pytest
from tests_support import own_cache

_BEGINS = "sqlite:///"


def fresh_home() -> Path | None:
    """The folder of this process's registry, if that is a SQLite file in which nothing was logged or registered."""
    uri = os.environ["MLFLOW_TRACKING_URI"]
    if not uri.startswith(_BEGINS) or "MLFLOW_REGISTRY_URI" in os.environ:
        return None
    file = Path(uri.removeprefix(_BEGINS))
    with contextlib.closing(sqlite3.connect(file)) as database:
        counts = [
            database.execute(f"SELECT count(*) FROM {table}").fetchone()[0] for table in ("runs", "model_versions")
        ]
    return None if any(counts) else file.parent


def made_once(place: Path, before: Path, fill: Callable[[Path], object]) -> Path:
    """A registry at `place`, made there the first time; its cache lies beside it.

    Args:
        place: the folder.
        before: the registry that it is a copy of at first.
        fill: registers in whatever registry is this process's, given a folder for what it takes.
    """
    done = place / "done"
    if not done.exists():
        shutil.rmtree(place, ignore_errors=True)  # half made by a test that failed
        place.mkdir(parents=True)
        copy_registry(before, place, place / "cache")
        with pytest.MonkeyPatch.context() as patched:
            patched.chdir(place)
            patched.setenv("MLFLOW_TRACKING_URI", f"{_BEGINS}{place}/mlflow.db")
            own_cache(patched, place)
            os.environ.pop("MLFLOW_EXPERIMENT_ID", None)
            patched.setattr(mlflow.tracking.fluent, "_active_experiment_id", None)
            fill(place / "sources")
        os.environ.pop("MLFLOW_EXPERIMENT_ID", None)  # MLflow sets it by itself
        done.touch()
    return place


def copy_registry(source: Path, home: Path, cache: Path) -> None:
    """Makes the registry in `home` a copy of another one, and the cache one of that which lies beside that one."""
    for place, own in ((source / "mlruns", home / "mlruns"), (source / "cache", cache)):
        if place.exists():
            shutil.copytree(place, own, dirs_exist_ok=True)
    with (
        contextlib.closing(sqlite3.connect(source / "mlflow.db")) as old,
        contextlib.closing(sqlite3.connect(home / "mlflow.db")) as new,
    ):
        old.backup(new)
        _replace_everywhere(new, f"{source}/", f"{home}/")
    for file in home.rglob("MLmodel"):
        file.write_text(file.read_text().replace(f"{source}/", f"{home}/"))


def _replace_everywhere(database: sqlite3.Connection, old: str, new: str) -> None:
    """In every column of every table: MLflow keeps whole paths."""
    with database:
        for (table,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall():
            for _, column, kind, *_ in database.execute(f"PRAGMA table_info({table})").fetchall():
                if kind.startswith(("VARCHAR", "TEXT")):
                    change = f'UPDATE "{table}" SET "{column}" = replace("{column}", ?, ?) WHERE instr("{column}", ?)'
                    database.execute(change, (old, new, old))
