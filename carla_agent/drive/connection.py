"""The connection to a simulator."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator

import carla

from carla_mlflow import DrivingError, UnreachableError
from carla_mlflow.escaping import one_line

TESTED = "0.9.16"
"""The CARLA that the tests' client is of, and the lowest that the extra `carla` allows."""
CONNECT_S = 10.0
"""How long to wait for a simulator's answer, seconds."""


def parse_address(text: str) -> tuple[str, int]:
    """HOST:PORT of a simulator; the port's default is CARLA's, 2000.

    Raises:
        DrivingError: it is no such address.
    """
    host, _, port = text.partition(":")
    is_number = not port or (port.isascii() and port.isdecimal())
    if not host or not is_number or not 0 < int(port or 2000) < 65536:
        raise DrivingError(f"{text}: expected HOST:PORT, such as localhost:2000")
    return host, int(port or 2000)


def connect(address: str) -> carla.Client:
    """A client of the simulator at that address.

    Raises:
        UnreachableError: no simulator answers there.
        DrivingError: it is another version of CARLA than this client.
    """
    host, port = parse_address(address)
    try:
        client = carla.Client(host, port)
        client.set_timeout(CONNECT_S)
        server = client.get_server_version()
    except RuntimeError as error:
        raise UnreachableError(
            f"{host}:{port}: no CARLA simulator answers: start one there, or name its address with --carla HOST:PORT"
        ) from error
    ours = client.get_client_version()
    if server != ours:
        raise DrivingError(
            f"{host}:{port}: the simulator is CARLA {server} and this client CARLA {ours}: {_remedy(server, ours)}"
        )
    return client


def _remedy(server: str, ours: str) -> str:
    if _numbers(server) < _numbers(TESTED):  # no such client can be installed beside this package
        return f"this package is tested with CARLA {TESTED}: start that"
    return f"pip install carla=={server}, or start CARLA {ours}"


def _numbers(version: str) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", version)[:3]]


@contextlib.contextmanager
def failures_in_words() -> Iterator[None]:
    """Turns the errors of CARLA's client, which raises only RuntimeError, into ours.

    Raises:
        UnreachableError: the simulator did not answer in time.
        DrivingError: it refused a call.
    """
    try:
        yield
    except RuntimeError as error:
        if type(error) is not RuntimeError:  # such as NotImplementedError: a bug of ours
            raise
        if "time-out" in str(error):
            raise UnreachableError("the simulator does not answer any more: is it still running?") from error
        raise DrivingError(f"the simulator refused a call; its own log may say why: {one_line(error)}") from error
