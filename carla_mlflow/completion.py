"""`COMMAND completion bash`, zsh or fish: prints what completes the command's flags and choices in that shell."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from .cli import DONE, requiring

Shell = Literal["bash", "zsh", "fish"]
SHELLS: tuple[Shell, ...] = ("bash", "zsh", "fish")


def shell_of(arguments: Sequence[str]) -> Shell | None:
    """The shell of a command line that asks for completion; None for any other."""
    if len(arguments) != 2 or arguments[0] != "completion":
        return None
    return next((shell for shell in SHELLS if shell == arguments[1]), None)


def print_completion(parser: argparse.ArgumentParser, shell: Shell, extra: str = "serve") -> int:
    """Prints the script that the shell reads, and returns the exit code."""
    with requiring(parser.prog, extra):
        import shtab
    _complete_paths(parser, shtab.FILE, shtab.DIR)
    print(shtab.complete(parser, shell))
    return DONE


def _complete_paths(parser: argparse.ArgumentParser, file: Any, folder: Any) -> None:
    """Marks what takes a path, in this parser and its subcommands', by what shtab offers for a file and a folder."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for command in action.choices.values():
                _complete_paths(command, file, folder)
        elif action.type is Path or "FOLDER" in str(action.metavar):
            is_folder = str(action.metavar) in {"DIR", "FOLDER"}
            action.complete = folder if is_folder else file  # type: ignore[attr-defined]  # shtab's own protocol
