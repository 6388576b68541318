"""What a command's argparse parser knows: usage, description, and every flag with its default."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from functools import partial
from importlib import import_module
from typing import NamedTuple

from reference_pages.markdown import block, code, table, words

WIDTH = 88
"""Characters in a line of usage."""
UNNAMED = ("options", "positional arguments")
"""argparse's own groups."""


class Program(NamedTuple):
    """A command, and the function that makes its parser."""

    title: str
    parser: str


PROGRAMS = (
    Program("carla-export", "training_export.export_command:build_parser"),
    Program("carla-registry", "registry.__main__:build_parser"),
    Program("carla-serve", "serve.flags:build_parser"),
    Program("python -m training_export", "training_export.__main__:build_parser"),
    Program("python -m serve score", "serve.score.command:build_parser"),
    Program("python -m serve replay", "serve.replay.command:build_parser"),
    Program("python -m carla_agent", "carla_agent.__main__:build_parser"),
    Program("python -m carla_mlflow.testing", "carla_mlflow.testing.__main__:build_parser"),
    Program("python -m serve.bake", "serve.bake:build_parser"),
    Program("python -m serve.probe", "serve.probe:build_parser"),
)


def described(program: Program) -> str:
    """Everything that the command's parser knows, in Markdown."""
    parser = parser_of(program)
    below = subcommands(parser)
    parts = [*_described(parser, "")]
    if below:
        rows = ([f"[{code(name)}](#{name})", words(text)] for name, (_, text) in below.items())
        parts.append(table(["command", "what it does"], rows))
    for name, (command, text) in below.items():
        parts.append(f"## {program.title.removeprefix('python -m ')} {name} {{ #{name} }}\n")
        parts += _described(command, text)
    return "\n".join(parts)


PARTS: dict[str, Callable[[], str]] = {
    program.title.removeprefix("python -m ").replace(" ", "-"): partial(described, program) for program in PROGRAMS
}
"""Name of the command → makes its part of a page."""


def parser_of(program: Program) -> argparse.ArgumentParser:
    module, _, name = program.parser.partition(":")
    parser: argparse.ArgumentParser = getattr(import_module(module), name)()
    parser.prog = program.title
    return parser


def subcommands(parser: argparse.ArgumentParser) -> dict[str, tuple[argparse.ArgumentParser, str]]:
    """Name → parser, and what the list of commands says of it."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            texts = {choice.dest: choice.help or "" for choice in action._choices_actions}
            return {name: (below, texts.get(name, "")) for name, below in action.choices.items()}
    return {}


def _described(parser: argparse.ArgumentParser, text: str) -> Iterator[str]:
    """Description, usage, flags and epilog of one parser."""
    formatter = parser._get_formatter()
    formatter._width = WIDTH
    is_raw = isinstance(formatter, argparse.RawDescriptionHelpFormatter)
    said = parser.description or (f"{text[:1].upper()}{text[1:]}." if text else "")
    if said:
        yield _text(said, is_raw and "\n" in said.strip())
    formatter.add_usage(parser.usage, parser._actions, parser._mutually_exclusive_groups, prefix="")
    yield block(formatter.format_help())
    for group in parser._action_groups:
        rows = [_row(formatter, action) for action in group._group_actions if _is_shown(action)]
        if rows:
            title = group.title or ""
            head = "argument" if title == "positional arguments" else "flag"
            yield ("" if title in UNNAMED else f"**{words(title)}**\n\n") + table([head, "default", ""], rows)
    if parser.epilog:
        yield _text(parser.epilog, is_raw)


def _text(text: str, is_raw: bool) -> str:
    """Prose as prose; what was laid out by hand as it is."""
    if is_raw:
        return block(text, "{.text .wrapped}")
    return "\n\n".join(words(part) for part in text.strip().split("\n\n")) + "\n"


def _is_shown(action: argparse.Action) -> bool:
    return action.help != argparse.SUPPRESS and not isinstance(
        action, argparse._SubParsersAction | argparse._HelpAction
    )


def _row(formatter: argparse.HelpFormatter, action: argparse.Action) -> list[str]:
    said = formatter._expand_help(action) if action.help else ""
    default = action.default
    is_told = default in (None, False, "", argparse.SUPPRESS) or default == []
    return [code(formatter._format_action_invocation(action)), "" if is_told else code(str(default)), words(said)]
