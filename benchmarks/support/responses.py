"""Reads HTTP responses by httptools, in whatever pieces they come: the one reader of all clients here."""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

from httptools import HttpParserError, HttpResponseParser


class Response(NamedTuple):
    """A whole response.

    Attributes:
        fields: header names and values as they were sent.
        closes: whether the server closes the connection behind it.
    """

    status: int
    fields: dict[bytes, bytes]
    body: bytes
    closes: bool

    @property
    def headers(self) -> dict[str, str]:
        """The headers, with names in lower case."""
        return {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in self.fields.items()}


class ResponseReader:
    """Takes bytes, makes responses of them.

    Attributes:
        found: whole responses that nobody has taken yet; those of status 100 are left out.
    """

    def __init__(self) -> None:
        self.found: deque[Response] = deque()
        self._fields: dict[bytes, bytes] = {}
        self._body: list[bytes] = []
        self._begun = False
        # The parser calls these two most often. As C functions they cost a client, which shares its cores with the
        # server, no more than searching the bytes by hand.
        self.on_header, self.on_body = self._fields.__setitem__, self._body.append
        self._parser = HttpResponseParser(self)

    def feed(self, data: bytes) -> None:
        """Reads on; raises ValueError when that is no HTTP."""
        try:
            self._parser.feed_data(data)
        except HttpParserError as error:
            raise ValueError(f"no HTTP response: {error}: {data[:100]!r}") from error

    def end(self) -> None:
        """Says that nothing more comes; raises ConnectionError within a response."""
        if self._begun:
            raise ConnectionError("the connection ended within a response")

    def on_message_begin(self) -> None:
        """Called by the parser."""
        self._begun = True

    def on_message_complete(self) -> None:
        """Called by the parser."""
        status, closes = self._parser.get_status_code(), not self._parser.should_keep_alive()
        if status != 100:
            self.found.append(Response(status, self._fields.copy(), b"".join(self._body), closes))
        self._fields.clear()
        self._body.clear()
        self._begun = False
