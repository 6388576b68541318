"""Parses what a head asks for, and caches the result: cars send the same head over and over."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl, unquote

from carla_mlflow.contract.episode import is_episode_id
from serve.answering.endpoint import INFERENCE, INVOCATIONS, PREDICT, Endpoint, explainer
from serve.codecs.options import check_episode_digest, check_episode_id
from serve.errors import ApiError
from serve.policy.selection import ACTIVE, Selection
from serve.settings import Settings
from serve.wire.head import Head, read_head
from serve.wire.header_rules import (
    check_encoding,
    check_host,
    check_key,
    check_media_type,
    cors_headers,
    episode_header,
    read_budget,
    read_json_bytes,
    read_request_id,
)

MAX_REMEMBERED, MAX_REMEMBERED_BYTES = 1024, 1024
"""Most cached heads, and most bytes of each."""

INFER_PATH = re.compile(r"/v2/models/(?P<name>[^/]+)(/versions/(?P<version>[^/]+))?/infer")
"""Matches the same paths as Flask's routes; `find_serving` refuses unknown names and versions."""

RefuseUnknown = Callable[[Head], ApiError | None]
"""Returns the error for an unknown path, or None for one that the Flask app answers."""


@dataclass(frozen=True, slots=True)
class ParsedHead:
    """A head, and what it asks for.

    Attributes:
        head: as it was read.
        endpoint: for a prediction; None for everything that the Flask app answers.
        refusal: the error that it gets whatever its body says, or None.
        asked: which policy it asks for.
        media_type: of the body, in lower case.
        gzip: whether the body is compressed.
        json_bytes: how many bytes of the body are JSON, if tensors follow.
        request_id: that the client gave, or None.
        episode_id: that a prediction's header names, or None.
        budget_ms: the smaller of the client's header and the server's setting; None if there is neither.
        extra: headers that every response to it carries.
    """

    head: Head
    endpoint: Endpoint | None
    refusal: ApiError | None
    asked: Selection = ACTIVE
    media_type: str = ""
    gzip: bool = False
    json_bytes: int | None = None
    request_id: str | None = None
    episode_id: str | None = None
    budget_ms: float | None = None
    extra: bytes = b""

    @property
    def is_preflight(self) -> bool:
        """Whether it is a CORS preflight request from a configured origin."""
        return self.head.method == "OPTIONS" and bool(self.extra)

    def explain(self, error: ApiError, request_id: str) -> dict[str, Any]:
        """Returns the body of an error in the format of the endpoint."""
        return (self.endpoint.explain if self.endpoint else explainer(unquote(self.head.path)))(error, request_id)


class HeadParser:
    """Parses heads, and caches the results by their bytes."""

    def __init__(self, settings: Settings, refuse_unknown: RefuseUnknown) -> None:
        self._settings, self._refuse_unknown = settings, refuse_unknown
        self._known: dict[bytes, ParsedHead] = {}
        self.known = self._known.get

    def parse(self, data: bytes) -> ParsedHead:
        """Parses a whole head.

        Raises:
            ApiError: it is malformed; the connection has to be closed.
        """
        found = self._known.get(data)
        if found is not None:
            return found
        parsed = parse_head(read_head(data), self._settings, self._refuse_unknown, self._settings.hosts)
        is_one_requests_own = parsed.request_id is not None or parsed.episode_id is not None
        if len(data) <= MAX_REMEMBERED_BYTES and not is_one_requests_own:
            if len(self._known) >= MAX_REMEMBERED:
                self._known.clear()
            self._known[data] = parsed
        return parsed


def extra_headers(parsed: ParsedHead | None, episode_id: str | None) -> bytes:
    """Returns the headers that a response carries besides, given the episode that its request named in any place."""
    if parsed is None or episode_id is None or parsed.episode_id is not None:
        return parsed.extra if parsed is not None else b""
    return parsed.extra + episode_header(episode_id)  # the body named it


def parse_head(
    head: Head, settings: Settings, refuse_unknown: RefuseUnknown, hosts: frozenset[str] | None
) -> ParsedHead:
    """Determines what a head asks for, and whether it is refused; `hosts` are the allowed values of Host."""
    endpoint, asked = _endpoint(head)
    request_id = read_request_id(head.headers)
    extra = cors_headers(head.headers.get("origin", ""), settings)
    given_id = head.headers.get("x-episode-id") if endpoint is not None else None
    episode_id = given_id if is_episode_id(given_id) else None
    if episode_id is not None:
        extra += episode_header(episode_id)
    try:
        check_host(head.path, head.headers.get("host", ""), hosts)
        if settings.api_key and not (head.method == "OPTIONS" and extra):  # a preflight carries no key
            check_key(head.path, head.headers.get("authorization", ""), settings)
        if head.length > settings.max_body_bytes:
            raise ApiError("body_too_large", f"the body is larger than {settings.max_body_bytes} bytes")
        media_type, budgets = "", [settings.budget_ms] if settings.budget_ms else []
        if endpoint is not None:
            media_type = check_media_type(head.headers.get("content-type", ""), endpoint)
            given = read_budget(head.headers.get("x-request-budget-ms"))
            budgets += [] if given is None else [given]
            check_episode_id(given_id, "X-Episode-Id")
            began_by = check_episode_digest(head.headers.get("x-episode-digest"), "X-Episode-Digest")
            if began_by is not None:
                asked = asked._replace(digest=began_by)
            elif settings.canary and episode_id is not None and asked.version is None:
                asked = asked._replace(episode_id=episode_id)
        gzip = check_encoding(head.headers.get("content-encoding", ""))
        json_bytes = read_json_bytes(head.headers.get("inference-header-content-length"))
        missing = None if endpoint else refuse_unknown(head)
        if missing is not None:
            raise missing
    except ApiError as refusal:
        return ParsedHead(head, endpoint, refusal, request_id=request_id, episode_id=episode_id, extra=extra)
    budget = min(budgets, default=None)
    return ParsedHead(head, endpoint, None, asked, media_type, gzip, json_bytes, request_id, episode_id, budget, extra)


def _endpoint(head: Head) -> tuple[Endpoint | None, Selection]:
    if head.method != "POST":
        return None, ACTIVE
    path = "/" + unquote(head.path).lstrip("/")  # as Flask reads it: no other spelling may bypass the batching
    inference = INFER_PATH.fullmatch(path)
    if inference is not None:
        return INFERENCE, Selection(inference["version"], inference["name"])
    endpoint = {"/predict": PREDICT, "/invocations": INVOCATIONS}.get(path)
    if endpoint is None:
        return None, ACTIVE
    versions = [value for key, value in parse_qsl(head.query, keep_blank_values=True) if key == "version"]
    return endpoint, Selection(versions[0]) if versions else ACTIVE
