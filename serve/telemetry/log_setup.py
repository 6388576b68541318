"""The format of log lines, also of gunicorn's: text, or one JSON object per line."""

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
    """Text format that escapes unprintable characters, so that a message stays on one line; a traceback follows it."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802  named by logging
        return escaped(super().formatMessage(record))


def start_logging(settings: Settings) -> None:
    """Sets up this process's log on stderr; lines of other libraries get the same format."""
    logging.basicConfig(level=settings.log_level.upper())
    is_json = settings.log_format == "json"
    for handler in logging.getLogger().handlers:
        handler.setFormatter(
            JsonFormatter(FIELDS, rename_fields=NAMES, timestamp="time") if is_json else Escaping(TEXT)
        )


class ServerLog(Logger):  # type: ignore[misc]
    """gunicorn's log: its own text format with escaping, or our JSON format."""

    def setup(self, cfg: Any) -> None:
        super().setup(cfg)
        formats = [handler.formatter for handler in logging.getLogger().handlers]
        is_json = bool(formats) and isinstance(formats[0], JsonFormatter)
        for handler in self.error_log.handlers:
            handler.setFormatter(formats[0] if is_json else Escaping(self.error_fmt, self.datefmt))
