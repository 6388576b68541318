"""Options that several of carla-registry's commands share: URLs of servers, durations, pages."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from carla_mlflow.cli import file_to_write
from carla_mlflow.client.unix_address import is_unix, socket_path
from carla_mlflow.errors import RefusedError
from carla_mlflow.look import progress
from registry.rules.durations import parse_duration

if TYPE_CHECKING:
    from registry.store.store import Store


def say_asking() -> None:
    """Says that the registry is asked; to be called before anything imports mlflow, which takes seconds."""
    progress("asking the registry")


def open_store() -> Store:
    """The registry, after `say_asking`."""
    say_asking()
    from registry.store.store import Store

    return Store()


def url(text: str) -> str:
    """An argparse type: a server's URL."""
    if not text.startswith(("http://", "https://")):
        raise argparse.ArgumentTypeError(f"{text!r} is not a URL; expected such as http://localhost:8080")
    return text


def server_address(text: str) -> str:
    """An argparse type: a server's URL, or unix: and the path of its socket."""
    if not is_unix(text):
        return url(text)
    try:
        return f"unix:{socket_path(text)}"
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def add_name(command: Any, **more: Any) -> None:
    """Adds the policy that a command is about, by its name alone; `more` is for `add_argument`."""
    command.add_argument("name", type=_name, metavar="NAME", **{"help": "the policy", **more})


def _name(text: str) -> str:
    """An argparse type: a name, and not a version's."""
    name, at, _ = text.partition("@")
    if at:
        raise argparse.ArgumentTypeError(f"{text!r} is a version; expected the policy's name alone: {name}")
    return text


def duration(text: str) -> float:
    """An argparse type: 10s, 30m, 2h, 1d → seconds."""
    try:
        return parse_duration(text)
    except RefusedError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def add_servers(command: Any, flag: str, text: str, required: bool) -> None:
    """Adds the URLs of servers and the file with their key; `flag` names the URLs; to a group, too."""
    command.add_argument(
        flag, dest="servers", nargs="+", type=server_address, default=[], metavar="URL", help=text, required=required
    )
    command.add_argument("--api-key-file", type=Path, metavar="FILE", help="the key that the servers ask for")


def add_html(command: Any, what: str) -> None:
    """Adds the flag that writes a page; `what` it shows, in words."""
    command.add_argument(
        "--html", type=file_to_write, metavar="FILE", help=f"write {what}, as a page for a browser in one file"
    )
