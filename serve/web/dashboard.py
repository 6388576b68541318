"""The body of GET /dashboard: everything that the page at / shows, while nothing is served, too."""

from __future__ import annotations

import time
from typing import Any

import msgspec
from flask import Flask, Response, g, request

from serve.errors import MEANING, STATUS, ApiError
from serve.following.last_moves import MOVES_FILE, LastMoves
from serve.policy.readiness import check_ready
from serve.policy.serving import Serving
from serve.policy.slot import Slot
from serve.run_folder import read_file, ready_workers
from serve.settings import Settings
from serve.telemetry import metrics
from serve.telemetry.buckets import minute_key
from serve.telemetry.recent_counts import SLOT_S, SLOTS, slot_now
from serve.web.metadata import clock, describe, describe_refused, warnings_of


def add_dashboard(app: Flask, slot: Slot, settings: Settings) -> None:
    """Adds /dashboard, which answers 200 while nothing is served, too: the page then says why."""

    @app.get("/dashboard")
    def dashboard() -> Response:
        after = request.args.get("after", "0")
        if not (after.isascii() and after.isdecimal() and len(after) <= 15):
            raise ApiError("bad_request", "expected the number of a slot", "after")
        g.serving = slot.serving
        body = show(slot, settings, int(after), request.args.get("card"))
        return Response(msgspec.json.encode(body), content_type="application/json")


def show(slot: Slot, settings: Settings, after: int = 0, known_card: str | None = None) -> dict[str, Any]:
    """Returns the body as plain values for JSON.

    Args:
        slot: the policies that are served.
        settings: of the server.
        after: only slots of the history with higher numbers than this.
        known_card: digest of the version whose card is left out.
    """
    serving, reason = slot.serving, _reason(slot)
    metadata = None if serving is None else describe(serving, slot, settings)
    if metadata is not None and metadata["digest"] == known_card:
        del metadata["card"]
    return {
        "ready": reason is None,
        "reason": reason,
        "warnings": warnings_of(slot),
        "workers": slot.workers,
        "ready_workers": ready_workers(slot.folder),
        "has_key": bool(settings.api_key),
        "metadata": metadata,
        "columns": [] if serving is None else columns_of(serving),
        "refused": describe_refused(slot.folder),
        "history": {"server": slot.folder.name, **_history(after)},
        "moves": _moves(slot, bool(settings.api_key)),
        "errors": errors(),
    }


def _reason(slot: Slot) -> str | None:
    """Why the server is not ready."""
    if slot.serving is None:
        return slot.reason
    try:
        check_ready(slot)
    except ApiError as error:
        return error.message
    return "stopping" if slot.draining else None


def columns_of(serving: Serving) -> list[dict[str, Any]]:
    """The values that the policy answers; `key` is their name in the history."""
    return [{**column._asdict(), "key": minute_key(column), "is_unit": column.is_unit} for column in serving.columns]


def _history(after: int) -> dict[str, Any]:
    now = slot_now()
    return {
        "slot_s": SLOT_S,
        "slots": SLOTS,
        "began": metrics.BUFFER.began,
        "now": now,
        "now_begins": time.time() - (time.monotonic() - now * SLOT_S),
        "bounds": {"latency": metrics.SECONDS, "actions": metrics.TENTHS},
        "counts": {str(slot): counts for slot, counts in metrics.BUFFER.recent(after).items()},
    }


def _moves(slot: Slot, has_key: bool) -> dict[str, Any] | None:
    """The journal's last moves; None where none is followed, or before it was read.

    Names and reasons are for holders of the API key: without one, anybody may ask.
    """
    found = read_file(slot.folder / MOVES_FILE, LastMoves)
    if found is None:
        return None
    moves = [msgspec.to_builtins(move) for move in found.moves]
    if not has_key:
        moves = [{**move, "who": None, "why": None, "waived": []} for move in moves]
    return {"read_at": clock(found.read_at), "moves": moves}


def errors() -> dict[str, dict[str, str]]:
    """Status → the error codes that have it → what each means."""
    found: dict[str, dict[str, str]] = {}
    for code, status in STATUS.items():
        found.setdefault(str(status), {})[code] = MEANING[code]
    return found
