"""What our clients say where only one side speaks TLS, or the server's certificate is not trusted."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from pathlib import Path

import httpcore
import pytest
from tests_support import Server

from carla_mlflow import AsyncPolicyClient, PolicyClient
from carla_mlflow.errors import UnreachableError

Start = Callable[..., Server]


def connect(kind: str, url: str) -> None:
    if kind == "sync":
        with PolicyClient(url):
            return

    async def ask() -> None:
        async with AsyncPolicyClient(url):
            return

    asyncio.run(ask())


@pytest.mark.parametrize("kind", ["sync", "asyncio"])
def test_a_client_names_what_to_change_in_the_address_or_the_trust(
    start_server: Start, certificate: tuple[Path, Path], example: Path, kind: str, monkeypatch: pytest.MonkeyPatch
):
    chain, key = certificate
    secure = start_server("--model", str(example), "--certfile", str(chain), "--keyfile", str(key))
    secure.url = secure.url.replace("http:", "https:")
    secure.pool = httpcore.ConnectionPool(ssl.create_default_context(cafile=str(chain)))
    plain = start_server("--model", str(example))
    secure.wait_ready()
    plain.wait_ready()
    monkeypatch.delenv("SSL_CERT_FILE", raising=False)
    for url, says in (
        (
            secure.url.replace("https:", "http:"),
            r"[a-z]; does the server speak TLS\? if so, its address begins with https:$",
        ),
        (plain.url.replace("http:", "https:"), "if not, its address begins with http:$"),
        (
            secure.url,
            r"no answer: its certificate is not trusted \([^()]*\); the variable SSL_CERT_FILE may name the "
            "certificate to trust$",
        ),
    ):
        with pytest.raises(UnreachableError, match=says):
            connect(kind, url)
    monkeypatch.setenv("SSL_CERT_FILE", "mistyped.pem")
    with pytest.raises(UnreachableError, match=r"SSL_CERT_FILE names mistyped\.pem, and there is no such file$"):
        connect(kind, secure.url)
    monkeypatch.setenv("SSL_CERT_FILE", str(chain))
    connect(kind, secure.url)
