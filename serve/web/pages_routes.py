"""HTML pages: the status of the server, and the API to read and to try. They load nothing from other hosts."""

from __future__ import annotations

import functools
from pathlib import Path

import msgspec
from flask import Flask, Response, g, request

from serve.errors import ApiError
from serve.policy.slot import Slot
from serve.settings import Settings
from serve.web.openapi import openapi

PAGES = Path(__file__).parent / "pages"
_TYPES = {".html": "text/html", ".js": "text/javascript", ".css": "text/css"}
_NAMES = sorted(path.name for path in PAGES.iterdir() if path.suffix in {".js", ".css"})
FILES = (("/", "status.html"), ("/docs", "docs.html"), *((f"/pages/{name}", name) for name in _NAMES))
"""Route → file of a page."""
POLICY = "default-src 'self'; img-src 'self' data:; frame-ancestors 'none'; base-uri 'none'; form-action 'self'"
"""Content-Security-Policy: only this server's scripts, and no other host."""


def add_pages(app: Flask, slot: Slot, settings: Settings) -> None:
    """Adds /openapi.json, /docs, and the status page at /."""

    @app.get("/openapi.json")
    def document() -> Response:
        if slot.serving is None:
            raise ApiError("not_ready", slot.reason)
        g.serving = slot.serving
        described = openapi(slot.serving.card, settings, bool(settings.webhook_secret))
        return Response(msgspec.json.encode(described), content_type="application/json")

    for route, name in FILES:
        app.add_url_rule(route, name, functools.partial(_page, name))


def _page(name: str) -> Response:
    response = Response((PAGES / name).read_bytes(), content_type=f"{_TYPES[Path(name).suffix]}; charset=utf-8")
    response.headers["Content-Security-Policy"] = POLICY
    response.headers["X-Content-Type-Options"] = "nosniff"
    response.headers["Cache-Control"] = "no-cache"  # to be asked for each time, and sent only if it has changed
    response.add_etag()
    response.make_conditional(request)
    return response
