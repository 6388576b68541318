"""A socket that refuses later clients: who has connected is not reset, and nobody connects any more."""

from __future__ import annotations

import socket
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from serve.wire.refuse_more import refuse_more


@pytest.mark.parametrize(
    ("family", "host"), [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1"), (socket.AF_UNIX, "")]
)
def test_who_waits_in_the_queue_is_answered_and_later_clients_are_refused(family: int, host: str, short_folder: Path):
    with socket.socket(family) as listener, socket.socket(family) as early, socket.socket(family) as late:
        listener.bind(str(short_folder / "socket") if family == socket.AF_UNIX else (host, 0))
        listener.listen()
        listener.settimeout(0.3)
        early.connect(listener.getsockname())
        refuse_more(listener)
        with ThreadPoolExecutor() as pool:
            refused = pool.submit(late.connect, listener.getsockname())
            accepted, _ = listener.accept()
            with accepted:
                early.sendall(b"request")
                assert accepted.recv(100) == b"request"
                accepted.sendall(b"response")
                assert early.recv(100) == b"response"
                with pytest.raises(OSError, match=r"timed out|temporarily|Invalid"):  # nobody else waits
                    listener.accept()
            listener.close()
            with pytest.raises(ConnectionRefusedError):
                refused.result(30)
