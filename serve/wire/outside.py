"""Writes to a connection, with TLS or without, while the thread of its event loop is blocked."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import ssl
from collections.abc import Callable
from typing import Any

from carla_mlflow.errors import RefusedError
from carla_mlflow.escaping import one_line


class TlsContext(ssl.SSLContext):
    """Stores the outgoing buffer of each connection as `outgoing` of its SSLObject."""

    def wrap_bio(self, incoming: ssl.MemoryBIO, outgoing: ssl.MemoryBIO, *rest: Any, **named: Any) -> ssl.SSLObject:
        made = super().wrap_bio(incoming, outgoing, *rest, **named)
        made.outgoing = outgoing  # type: ignore[attr-defined]
        return made


def tls_context(certfile: str, keyfile: str) -> ssl.SSLContext:
    """Returns the TLS context of a server, from a certificate chain and its private key, both PEM files."""
    context = TlsContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certfile, keyfile)
    return context


def check_tls(certfile: str, keyfile: str) -> None:
    """Raises RefusedError unless the files are a certificate chain and its private key."""
    try:
        tls_context(certfile, keyfile)
    except OSError as error:  # ssl.SSLError is one
        raise RefusedError(
            f"--certfile {certfile} and --keyfile {keyfile}: expected a certificate and its own private key, each a "
            f"PEM file that can be read ({one_line(error)})"
        ) from error


def end_outside(transport: asyncio.Transport, last: Callable[[], bytes]) -> None:
    """Sends a last response if no earlier one waits to be sent; else closes the connection without it.

    To be called while the event loop's thread can't touch the transport. What a TLS transport passed on to the kernel's
    queue in this iteration of the event loop can't be seen; the client would refuse a TLS record that overtook it.

    Args:
        transport: of the connection; nothing may be written to it afterwards.
        last: builds the response.
    """
    sock = transport.get_extra_info("socket")
    if sock is None or transport.is_closing():
        return
    with contextlib.suppress(OSError):  # the client may be gone
        if transport.get_write_buffer_size() == 0:
            data = last()
            tls = transport.get_extra_info("ssl_object")
            if tls is not None:
                tls.write(data)
                data = tls.outgoing.read()
            if os.write(sock.fileno(), data) == len(data):
                return
        # The kernel still sends what it already has.
    with contextlib.suppress(OSError), socket.socket(fileno=os.dup(sock.fileno())) as ours:
        ours.shutdown(socket.SHUT_WR)
