"""msgpack-rpc as LibCarla's client speaks it (rpclib): requests `[0, id, method, arguments]`, notifications `[2, …]`.

An answer is `[1, id, error, result]`. LibCarla looks for its errors in the result (rpc/Response.h): `[[1, value]]` is a
value, `[[0, [what]]]` an error; where a call returns nothing, `[[False]]` is success and `[[True, [what]]]` an error.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Any

import msgpack  # msgspec decodes whole messages only, and these come without their length

Handler = Callable[[str, list[Any]], Any]
"""Method and arguments → result; raises UnknownMethodError for a method that is not there."""


class UnknownMethodError(Exception):
    """There is no such method."""


class RpcServer:
    """Answers the calls of each connection, one after the other."""

    def __init__(
        self, handle: Handler, is_heard: Callable[[str], bool], prepare: Callable[[str], Awaitable[None]]
    ) -> None:
        """Keeps what it is given.

        Args:
            handle: answers a call.
            is_heard: whether a method is answered at this moment: a server that has fallen silent reads and drops.
            prepare: awaited before a method is called.
        """
        self._handle, self._is_heard, self._prepare = handle, is_heard, prepare

    async def converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answers one connection until it ends."""
        unpacker = msgpack.Unpacker(raw=False, strict_map_key=False)
        with contextlib.suppress(ConnectionError), contextlib.closing(writer):
            while data := await reader.read(65536):
                unpacker.feed(data)
                for kind, *rest in unpacker:
                    number, method, arguments = rest if kind == 0 else (None, *rest)
                    if self._is_heard(method):
                        await self._prepare(method)
                        answer = self._answer(number, method, arguments)
                        if number is not None:
                            writer.write(answer)

    def _answer(self, number: int | None, method: str, arguments: list[Any]) -> bytes:
        error, result = None, None
        try:
            result = self._handle(method, arguments)
        except UnknownMethodError:
            error = f"toy_carla: there is no method {method}"
        except Exception as failure:  # a bug of ours: the client shall hear of it, and the world go on
            error = f"toy_carla: {method} failed: {failure!r}"
        packed: bytes = msgpack.packb([1, number, error, result])
        return packed
