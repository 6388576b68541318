"""Log lines: text for people, or a JSON object each for machines, gunicorn's among them."""

from __future__ import annotations

import logging
from typing import Any

from gunicorn.glogging import Logger
from pythonjsonlogger.json import JsonFormatter

from carla_mlflow.escaping import escaped
from serve.settings import Settings

TEXT = "%(asctime)s %(name)s %(levelname)s %(message)s"
FIELDS = ["levelname", "name", "message", "process"]
NAMES = {"levelname": "level", "name": "logger", "process": "pid"}


class Escaping(logging.Formatter):
    """A line for people that stays one, whatever is told in it; a traceback behind it has lines of its own."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802  logging calls it so
        return escaped(super().formatMessage(record))


def start_logging(settings: Settings) -> None:
    """Sets up this process's log, on stderr; a line that another library writes has the same shape."""
    logging.basicConfig(level=settings.log_level.upper())
    is_json = settings.log_format == "json"
    for handler in logging.getLogger().handlers:
        handler.setFormatter(
            JsonFormatter(FIELDS, rename_fields=NAMES, timestamp="time") if is_json else Escaping(TEXT)
        )


class ServerLog(Logger):  # type: ignore[misc]
    """gunicorn's log: its own lines escaped, or with the shape of ours where those are JSON."""

    def setup(self, cfg: Any) -> None:
        super().setup(cfg)
        formats = [handler.formatter for handler in logging.getLogger().handlers]
        is_json = bool(formats) and isinstance(formats[0], JsonFormatter)
        for handler in self.error_log.handlers:
            handler.setFormatter(formats[0] if is_json else Escaping(self.error_fmt, self.datefmt))
