"""The counters of running servers, as guard and compare read them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from tests_support import EXAMPLE, Server

from carla_mlflow.errors import ServerError, UnreachableError
from registry.checks.scrape import Servers, scrape


def test_a_server_on_a_unix_socket_is_read_as_any_other(start_on_socket: Callable[..., Server], short_folder: Path):
    path = short_folder / "policy.sock"
    server = start_on_socket(path, "--model", str(EXAMPLE))
    server.wait_ready()
    url = f"unix:{path}"
    for half_hour in (False, True):
        found = Servers((url,)).scrape(half_hour)[url]
        assert "policy_actions_total" in {name for name, _ in found.samples}, found  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("url", "error", "said"),
    [
        ("unix:/nowhere/policy.sock", UnreachableError, "there is no such socket; is carla-serve running"),
        ("unix://car-1/policy.sock", ServerError, "a Unix socket is on no host"),
    ],
)
def test_a_socket_that_can_not_be_asked_is_named_with_the_reason(url: str, error: type[Exception], said: str):
    with pytest.raises(error, match=said):
        scrape(url)
