"""How a stopping server refuses clients without resetting any that has connected."""

from __future__ import annotations

import contextlib
import ctypes
import socket
import struct
import sys

HANDSHAKE_S = 0.1
"""Seconds for TCP handshakes that were under way when a stopping server began to refuse clients."""
SO_ATTACH_FILTER = 26
"""Linux's socket option for a packet filter (asm-generic/socket.h); Python's socket module does not name it."""
NO_SYN = [
    struct.pack("HBBI", *instruction)  # code, jump if true, jump if false, operand
    for instruction in (
        (0x30, 0, 0, 13),  # load the byte with the flags of the TCP header
        (0x45, 0, 1, 0x02),  # is SYN among them?
        (0x06, 0, 0, 0),  # then drop the packet
        (0x06, 0, 0, 0xFFFFFFFF),  # else take it whole
    )
]
"""A classic BPF program (linux/filter.h) under which a listening socket opens no further connection."""


def refuse_more(listener: socket.socket) -> None:
    """Refuses later connections in all processes that share the socket; those in its queue can be accepted.

    Without it, a connection between the last accept and the end of the last process would be reset. On TCP the kernel
    then drops what opens a connection; its client tries again after a second, and is refused as nobody listens.
    """
    with contextlib.suppress(OSError):  # where the system does not know it, the server has to stop all the same
        if listener.family == socket.AF_UNIX:
            listener.shutdown(socket.SHUT_RD)
        elif sys.platform == "linux":
            instructions = ctypes.create_string_buffer(b"".join(NO_SYN))
            program = struct.pack("HP", len(NO_SYN), ctypes.addressof(instructions))
            listener.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, program)
