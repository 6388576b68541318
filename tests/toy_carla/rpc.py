"""msgpack-rpc as LibCarla's client speaks it (rpclib): requests `[0, id, method, arguments]`, notifications `[2, …]`.

An answer is `[1, id, error, result]`. LibCarla looks for its errors in the result (rpc/Response.h): `[[1, value]]` is a
value, `[[0, [what]]]` an error; where a call returns nothing, `[[False]]` is success and `[[True, [what]]]` an error.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import msgpack  # msgspec decodes whole messages only, and these come without their length

Handler = Callable[[str, list[Any]], Any]
"""Method and arguments → result; raises `UnknownMethodError` for a method that is not there."""


class UnknownMethodError(Exception):
    """There is no such method."""


class RpcConnection(asyncio.Protocol):
    """One client's connection.

    `may_answer` says whether a method is answered at this moment: a server that has fallen silent reads and drops.
    """

    def __init__(self, handle: Handler, may_answer: Callable[[str], bool]) -> None:
        self._handle, self._may_answer = handle, may_answer
        self._unpacker = msgpack.Unpacker(raw=False, strict_map_key=False)
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._unpacker.feed(data)
        for message in self._unpacker:
            kind, *rest = message
            number, method, arguments = rest if kind == 0 else (None, *rest)
            if self._may_answer(method):
                self._answer(number, method, arguments)

    def _answer(self, number: int | None, method: str, arguments: list[Any]) -> None:
        error, result = None, None
        try:
            result = self._handle(method, arguments)
        except UnknownMethodError:
            error = f"toy_carla: there is no method {method}"
        except Exception as failure:  # a bug of ours: the client shall hear of it, and the world go on
            error = f"toy_carla: {method} failed: {failure!r}"
        if number is not None and self._transport is not None:
            self._transport.write(msgpack.packb([1, number, error, result]))
