"""MLflow's SQLite file is made whole or not at all."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

SQLITE = "sqlite:///"


def make_database(uri: str) -> None:
    """Makes the SQLite file that the URI names, if it is not there, and gives it its name once it is whole.

    MLflow makes its tables in the file itself, one by one. A process that ends meanwhile, by Ctrl-C or otherwise,
    leaves a file that MLflow can neither use nor finish.

    Args:
        uri: of a tracking server or registry; nothing is done for any other kind.
    """
    file = Path(uri.removeprefix(SQLITE))
    if not uri.startswith(SQLITE) or "?" in uri or ":" in file.name or file.exists() or not file.parent.is_dir():
        return
    try:
        import sqlalchemy
        from mlflow.store.db.utils import _initialize_tables
    except ImportError:  # MLflow's small package has no database
        return
    try:
        with tempfile.TemporaryDirectory(prefix=f".{file.name}-", dir=file.parent) as beside:
            made = Path(beside) / file.name
            engine = sqlalchemy.create_engine(f"{SQLITE}{made.absolute()}")
            _initialize_tables(engine)  # type: ignore[no-untyped-call]
            engine.dispose()
            os.link(made, file)  # unlike a rename it never replaces what another process has made meanwhile
    except (OSError, sqlalchemy.exc.SQLAlchemyError):  # another was sooner, or no room: MLflow says that itself
        return


def database_errors() -> tuple[type[Exception], ...]:
    """The errors of a database that MLflow uses directly; none without SQLAlchemy, as MLflow then uses no database."""
    try:
        from sqlalchemy.exc import SQLAlchemyError
    except ImportError:
        return ()
    return (SQLAlchemyError,)


def say_database(uri: str, error: Exception) -> str:
    """Why a database can't be used and, of a SQLite file whose tables are incomplete, what to do."""
    reason = f"{uri}: {str(error).splitlines()[0]}"
    incomplete = any(sign in reason for sign in ("already exists", "no such table"))
    if not incomplete or not uri.startswith(SQLITE):
        return reason
    return (
        f"{reason}: not all of MLflow's tables are there, as when it was ended while it made them; if "
        f"nothing makes them now, move {uri.removeprefix(SQLITE)} away and try again"
    )
