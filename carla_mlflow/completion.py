"""`COMMAND completion bash`, zsh or fish: prints what completes the command's flags and choices in that shell."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from .cli import DONE, requiring
from .command_parser import CommandParser, add_help

Shell = Literal["bash", "zsh", "fish"]
SHELLS: tuple[Shell, ...] = ("bash", "zsh", "fish")


def shell_of(program: str, arguments: Sequence[str]) -> Shell | None:
    """The shell of a command line that asks for completion; None for any other.

    Ends the program with its help, or as for all wrong arguments, where the line asks for completion in no shell.
    """
    if arguments[:1] != ["completion"] or len(arguments) > 2:
        return None
    parser = CommandParser(
        prog=f"{program} completion",
        description="Prints a script by which a shell completes the commands, flags and choices of this program.",
        examples=[f"{program} completion bash > ~/.local/share/bash-completion/completions/{program}"],
    )
    parser.add_argument(
        "shell", choices=SHELLS, help="the shell; docs/reference/commands.md says where its scripts lie"
    )
    add_help(parser)
    shell: Shell = parser.parse_args(arguments[1:]).shell
    return shell


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
