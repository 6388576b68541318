"""MLflow's SQLite file: whoever is ended while it is made can go on in the same folder."""

from __future__ import annotations

import errno
import os
import sqlite3
from pathlib import Path
from urllib.parse import quote

import pytest
from killing import killed_at
from tests_support import command_here

from carla_mlflow.flavor.database import make_database


def test_who_is_killed_while_the_database_is_made_can_begin_anew(new_home: Path):
    uri = f"sqlite:///{new_home}/mlflow.db"
    killed_at("mlflow.store.db.utils._upgrade_db", False, make_database, uri)
    assert not (new_home / "mlflow.db").exists()
    done = command_here("carla-registry", "list")
    assert (done.code, done.out.splitlines()[0]) == (0, f"{uri}: no policy is registered yet")


def test_a_database_that_is_there_stays_as_it_is(new_home: Path):
    file = new_home / "mlflow.db"
    file.write_bytes(b"somebody's")
    make_database(f"sqlite:///{file}")
    assert file.read_bytes() == b"somebody's"


@pytest.mark.parametrize("links", [True, False])
def test_a_database_is_made_whole_in_any_folder_also_where_there_are_no_links(
    new_home: Path, monkeypatch: pytest.MonkeyPatch, links: bool
):
    folder = new_home / "my project, 100%"
    if not links:
        monkeypatch.setattr(os, "link", refuse)
    make_database(f"sqlite:///{quote(str(folder))}/mlflow.db")
    assert [each.name for each in folder.iterdir()] == ["mlflow.db"]
    with sqlite3.connect(folder / "mlflow.db") as database:
        assert database.execute("SELECT count(*) FROM registered_models").fetchone() == (0,)


def refuse(*_: object) -> None:
    """As of a file system without hard links."""
    raise OSError(errno.EPERM, os.strerror(errno.EPERM))


def test_a_folder_that_may_not_be_used_is_left_to_mlflow(new_home: Path):
    (new_home / "file").touch()
    make_database(f"sqlite:///{new_home}/file/mlflow.db")
    assert list(new_home.iterdir()) == [new_home / "file"]


@pytest.mark.parametrize("uri", ["sqlite:///:memory:", "sqlite:///mlflow.db?mode=ro", "http://localhost:1", ""])
def test_what_is_no_new_file_of_a_folder_is_left_to_mlflow(new_home: Path, uri: str):
    make_database(uri)
    assert list(new_home.iterdir()) == []


def test_a_database_whose_tables_are_incomplete_is_told_with_what_to_do(new_home: Path):
    with sqlite3.connect(new_home / "mlflow.db") as database:
        database.execute("CREATE TABLE mcp_servers (id INTEGER)")  # as an ended migration leaves it
    for command in (("carla-registry", "list"), ("carla-export", "runs:/latest", "--dry-run")):
        done = command_here(*command)
        assert done.code == 3
        assert done.err.endswith(
            "not all of MLflow's tables are there, as when MLflow was stopped while it made them; if no other process "
            f"makes them now, move {new_home}/mlflow.db away and try again\n"
        )
