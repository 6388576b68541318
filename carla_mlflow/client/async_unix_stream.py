"""Unix sockets in asyncio, since httpcore's own spins while the server's queue of new connections is full."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from typing import Any

import httpcore

from .unix_stream import FULL_S, as_of_httpcore, is_readable


class AsyncUnixBackend(httpcore.AsyncNetworkBackend):
    """Opens connections to Unix sockets only."""

    async def connect_unix_socket(
        self, path: str, timeout: float | None = None, *_: Any, **options: Any
    ) -> httpcore.AsyncNetworkStream:
        """Connects as soon as the server's queue has room; closes the socket if it fails or is cancelled."""
        opened = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            opened.setblocking(False)
            with as_of_httpcore(httpcore.ConnectError, httpcore.ConnectTimeout):
                async with asyncio.timeout(timeout):
                    await _connect(opened, path)
                    streams = await asyncio.open_unix_connection(sock=opened)
        except BaseException:
            opened.close()
            raise
        return AsyncUnixStream(opened, *streams)


async def _connect(opened: socket.socket, path: str) -> None:
    while True:
        try:
            return opened.connect(path)
        except BlockingIOError:  # `loop.sock_connect` would wait until it is writable, which it is at once
            await asyncio.sleep(FULL_S)


class AsyncUnixStream(httpcore.AsyncNetworkStream):
    """An open connection; errors and timeouts are httpcore's."""

    def __init__(self, connected: socket.socket, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Takes a connected socket, and asyncio's streams on it."""
        self._socket, self._reader, self._writer = connected, reader, writer

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        """Returns bytes as soon as any are there."""
        with as_of_httpcore(httpcore.ReadError, httpcore.ReadTimeout):
            async with asyncio.timeout(timeout):
                return await self._reader.read(max_bytes)

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:
        """Writes all bytes."""
        with as_of_httpcore(httpcore.WriteError, httpcore.WriteTimeout):
            async with asyncio.timeout(timeout):
                self._writer.write(buffer)
                await self._writer.drain()

    async def aclose(self) -> None:
        """Closes the connection; a read that waits gets the end."""
        self._writer.close()
        with contextlib.suppress(OSError):  # by which the connection had ended before
            await self._writer.wait_closed()

    def get_extra_info(self, info: str) -> Any:
        """Answers `is_readable`, by which httpcore sees that the server has closed an idle connection."""
        if info == "is_readable":
            return self._reader.at_eof() or is_readable(self._socket)
        return self._socket if info == "socket" else None
