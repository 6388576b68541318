"""The bytes of whole, good HTTP requests, made before the clock starts."""

from __future__ import annotations


def http_request(path: str, body: bytes, media_type: str, **headers: str) -> bytes:
    """The bytes of a whole POST."""
    lines = {"Host": "localhost", "Content-Type": media_type, "Content-Length": str(len(body)), **headers}
    head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
    return f"POST {path} HTTP/1.1\r\n{head}\r\n".encode() + body


def get_request(path: str) -> bytes:
    """The bytes of a whole GET."""
    return f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()
