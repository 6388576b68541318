"""The parser of every command: help in groups with an example, errors in two lines, and the flags that all have."""

from __future__ import annotations

import argparse
import difflib
import functools
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

from .exit_codes import EXIT_CODES, USAGE

WIDTH = 100
"""Widest help, in characters: longer lines are hard to read."""


class CommandParser(argparse.ArgumentParser):
    """A parser whose help ends with examples and the exit codes; its subcommands' parsers are of this class, too.

    Args:
        prog: the command, as it is typed.
        examples: lines that can be pasted; `python -m …` or the command's own name begins each.
        notes: paragraphs below the flags.
        more: for ArgumentParser.
    """

    def __init__(self, prog: str | None = None, examples: Sequence[str] = (), notes: str = "", **more: Any) -> None:
        shown = "".join(f"\n  {line}" for line in examples)
        parts = [notes.strip(), f"examples:{shown}" if shown else "", f"exit codes: {_codes()}"]
        epilog = "\n\n".join(part for part in parts if part)
        layout = functools.partial(argparse.RawDescriptionHelpFormatter, max_help_position=30, width=_width())
        super().__init__(prog, epilog=epilog, add_help=False, formatter_class=layout, **more)

    def parse_args(self, args: Any = None, namespace: Any = None) -> Any:
        """As argparse's, but an unknown flag of a subcommand is refused by its own parser, whose help lists them."""
        options, unknown = self.parse_known_args(args, namespace)
        if unknown:
            sys.exit(getattr(options, "usage", self.refuse)(f"unrecognized arguments: {' '.join(unknown)}", unknown))
        return options

    def error(self, message: str) -> NoReturn:
        """Refuses the command line, and ends the process."""
        sys.exit(self.refuse(message))

    def refuse(self, message: str, unknown: Sequence[str] = ()) -> int:
        """Says in two lines what is wrong (the usage alone would fill a page), and returns the exit code.

        Args:
            message: what is wrong.
            unknown: arguments that this parser does not know: the flags that they may have been meant for are named.
        """
        flags = [argument.partition("=")[0] for argument in unknown if argument.startswith("--")]
        near = [difflib.get_close_matches(flag, self._option_string_actions, 1) for flag in flags]
        meant = ", ".join(dict.fromkeys(found[0] for found in near if found))
        message += f"; did you mean {meant}?" if meant else ""
        print(f"{self.prog}: error: {message}\nsee {self.prog} --help", file=sys.stderr)
        return USAGE


def add_command(commands: Any, name: str, summary: str, examples: Sequence[str], **more: Any) -> Any:
    """Adds a subcommand → its parser.

    Args:
        commands: what `add_subparsers` gave.
        name: of the subcommand.
        summary: in a few words, for the list of commands; also its description unless `more` has a longer one.
        examples: see CommandParser.
        more: for CommandParser.
    """
    more.setdefault("description", f"{summary[0].upper()}{summary[1:]}.")
    return commands.add_parser(name, help=summary, examples=examples, **more)


def _width() -> int:
    import shutil

    return min(WIDTH, shutil.get_terminal_size((WIDTH, 24)).columns - 2)


def _codes() -> str:
    return ", ".join(f"{code} {meaning}" for code, meaning in EXIT_CODES.items())


def print_version() -> NoReturn:
    """Prints which version of this package that is, and of which commit; then exits."""
    from . import __version__
    from .build import git_sha

    print(f"carla-mlflow {__version__} (commit {git_sha()})")
    sys.exit(0)


class _Version(argparse.Action):
    def __call__(self, parser: argparse.ArgumentParser, options: argparse.Namespace, value: Any, *_: Any) -> None:
        if value is None or value == []:
            print_version()
        setattr(options, self.dest, value)


def add_common(parser: CommandParser, json: bool = True) -> None:
    """Adds the flags that every command has, in a group of their own; call it when the command's others are added.

    Args:
        parser: the command's; `return options.usage(text)` then refuses a command line that argparse has let pass.
        json: whether the command prints results, so that it can print them as JSON.
    """
    group = parser.add_argument_group("output and help")
    if json:
        group.add_argument("--json", action="store_true", help="print one JSON object, and nothing else, on stdout")
    group.add_argument("--quiet", action="store_true", help="print errors only (and what --json prints)")
    group.add_argument("--debug", action="store_true", help="show the traceback of an error")
    add_help(parser, group)
    parser.set_defaults(usage=parser.refuse)


def add_help(parser: argparse.ArgumentParser, group: Any = None) -> None:
    """Adds --help and, unless the command has a --version of its own, --version; to a group, if one is given."""
    target = group or parser
    if "--version" not in parser._option_string_actions:
        target.add_argument("--version", action=_Version, nargs=0, default=argparse.SUPPRESS, help=_OF_PROGRAM)
    target.add_argument("-h", "--help", action="help", help="show this text")


_OF_PROGRAM = "print the version of this program"


def add_policy_version(group: Any, default: str) -> None:
    """Adds --version VERSION, that of a policy; without a value it prints the program's, as with every command.

    Args:
        group: of the parser.
        default: in words, which version the policy gets without it.
    """
    group.add_argument(
        "--version",
        action=_Version,
        nargs="?",
        metavar="X.Y.Z",
        help=f"semantic version of the policy (default: {default}); without X.Y.Z, {_OF_PROGRAM}",
    )
