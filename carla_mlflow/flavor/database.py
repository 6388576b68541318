"""The database of a tracking server or registry: a SQLite file is made whole or not at all, and told by its path."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from urllib.parse import unquote, urlsplit, urlunsplit

SQLITE = "sqlite:///"


def sqlite_file(uri: str) -> Path | None:
    """The file that MLflow's URI of a SQLite database names; None for any other database, and for one in memory."""
    path = unquote(uri.removeprefix(SQLITE))
    is_file = uri.startswith(SQLITE) and "?" not in uri and ":" not in Path(path).name
    return Path(path) if is_file and path else None


def without_password(uri: str) -> str:
    """The URI without user and password, as it may be shown in messages, tags and the journal."""
    parts = urlsplit(uri)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2])) if "@" in parts.netloc else uri


def make_database(uri: str) -> None:
    """Makes the SQLite file that the URI names, if it is not there, and gives it its name once it is whole.

    MLflow makes its tables in the file itself, one by one. A process that ends meanwhile, by Ctrl-C or otherwise,
    leaves a file that MLflow can neither use nor finish. One that is killed here leaves a hidden folder beside it.

    Args:
        uri: of a tracking server or registry; nothing is done for any other kind.
    """
    file = sqlite_file(uri)
    try:
        if file is not None and not file.exists():
            _make(file)
    except (ImportError, OSError):  # MLflow's small package has no database; why a folder can't be used MLflow says
        return


def _make(file: Path) -> None:
    import sqlalchemy
    from mlflow.store.db.utils import _initialize_tables

    file.parent.mkdir(parents=True, exist_ok=True)  # as MLflow does
    with tempfile.TemporaryDirectory(prefix=f".{file.name}-", dir=file.parent) as beside:
        made = Path(beside).absolute() / file.name
        engine = sqlalchemy.create_engine(sqlalchemy.URL.create("sqlite", database=str(made)))
        _initialize_tables(engine)  # type: ignore[no-untyped-call]
        engine.dispose()
        try:
            os.link(made, file)  # unlike a rename it never replaces what another process has made meanwhile
        except FileExistsError:
            return
        except OSError:  # a file system without links
            if not file.exists():
                made.rename(file)


def database_errors() -> tuple[type[Exception], ...]:
    """The errors of a database that MLflow uses directly; none without SQLAlchemy, as MLflow then uses no database."""
    try:
        from sqlalchemy.exc import SQLAlchemyError
    except ImportError:
        return ()
    return (SQLAlchemyError,)


def say_database(uri: str, error: Exception) -> str:
    """Why a database can't be used and, of a SQLite file whose tables are incomplete, what to do."""
    file, reason = sqlite_file(uri), f"{uri}: {str(error).splitlines()[0]}"
    if file is None or not any(sign in reason for sign in ("already exists", "no such table")):
        return reason
    return (
        f"{reason}: not all of MLflow's tables are there, as when MLflow was stopped while it made them; if no other "
        f"process makes them now, move {file} away and try again"
    )
