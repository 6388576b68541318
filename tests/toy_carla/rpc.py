"""msgpack-rpc as LibCarla's client speaks it (rpclib): requests `[0, id, method, arguments]`, notifications `[2, …]`.

An answer is `[1, id, error, result]`. LibCarla looks for its errors in the result (rpc/Response.h): `[[1, value]]` is a
value, `[[0, [what]]]` an error; where a call returns nothing, `[[False]]` is success and `[[True, [what]]]` an error.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import msgpack  # msgspec decodes whole messages only, and these come without their length

Handler = Callable[[str, list[Any]], Any]
"""Method and arguments → result; raises UnknownMethodError for a method that is not there."""


class UnknownMethodError(Exception):
    """There is no such method."""


class RpcServer:
    """Answers the calls of each connection, one after the other."""

    def __init__(
        self,
        handle: Handler,
        is_heard: Callable[[str], bool],
        prepare: Callable[[str], Awaitable[None]],
        later: Mapping[str, float],
    ) -> None:
        """Keeps what it is given.

        Args:
            handle: answers a call.
            is_heard: whether a method is answered at this moment: a server that has fallen silent reads and drops.
            prepare: awaited before a method is called.
            later: method → seconds after which it is called, while others are answered already.
        """
        self._handle, self._is_heard, self._prepare, self._later = handle, is_heard, prepare, later

    async def converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answers one connection until it ends."""
        unpacker = msgpack.Unpacker(raw=False, strict_map_key=False)
        with contextlib.suppress(ConnectionError), contextlib.closing(writer):
            while data := await reader.read(65536):
                unpacker.feed(data)
                for kind, *rest in unpacker:
                    number, method, arguments = rest if kind == 0 else (None, *rest)
                    if not self._is_heard(method):
                        continue
                    await self._prepare(method)
                    if method in self._later:
                        loop = asyncio.get_running_loop()
                        loop.call_later(self._later[method], self._answer, writer, number, method, arguments)
                    else:
                        self._answer(writer, number, method, arguments)

    def _answer(self, writer: asyncio.StreamWriter, number: int | None, method: str, arguments: list[Any]) -> None:
        error, result = None, None
        try:
            result = self._handle(method, arguments)
        except UnknownMethodError:
            error = f"toy_carla: there is no method {method}"
        except Exception as failure:  # a bug of ours: the client shall hear of it, and the world go on
            error = f"toy_carla: {method} failed: {failure!r}"
        if number is not None:
            writer.write(msgpack.packb([1, number, error, result]))
