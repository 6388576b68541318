"""Log lines: text for people, or a JSON object each for machines, gunicorn's among them."""

from __future__ import annotations

import logging
from typing import Any

from gunicorn.glogging import Logger
from pythonjsonlogger.json import JsonFormatter

from serve.settings import Settings

TEXT = "%(asctime)s %(name)s %(levelname)s %(message)s"
FIELDS = ["levelname", "name", "message", "process"]
NAMES = {"levelname": "level", "name": "logger", "process": "pid"}


def start_logging(settings: Settings) -> None:
    """Sets up this process's log, on stderr; a line that another library writes has the same shape."""
    logging.basicConfig(format=TEXT, level=settings.log_level.upper())
    if settings.log_format == "json":
        for handler in logging.getLogger().handlers:
            handler.setFormatter(JsonFormatter(FIELDS, rename_fields=NAMES, timestamp="time"))


class ServerLog(Logger):  # type: ignore[misc]
    """gunicorn's log, with the lines of ours where they are JSON."""

    def setup(self, cfg: Any) -> None:
        super().setup(cfg)
        formats = [handler.formatter for handler in logging.getLogger().handlers]
        if formats and isinstance(formats[0], JsonFormatter):
            for handler in self.error_log.handlers:
                handler.setFormatter(formats[0])
