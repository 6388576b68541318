"""Text, code and tables in Markdown."""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Sequence


def code(text: str) -> str:
    """As code inside a line or a cell of a table, where a pipe or a backtick would end it."""
    return f"<code>{html.escape(text, quote=False).replace('|', '&#124;').replace('*', '&#42;')}</code>" if text else ""


def words(text: str) -> str:
    """Plain text in a line or a cell: nothing in it is markup, but what stands in backticks is code."""
    parts = re.split(r"`([^`]+)`", " ".join(text.split()))
    return "".join(code(part) if index % 2 else _plain(part) for index, part in enumerate(parts))


def _plain(text: str) -> str:
    escaped = html.escape(text, quote=False).replace("|", "&#124;")
    return re.sub(r"([\\*_\[\]#~])", r"\\\1", escaped)


def block(text: str, language: str = "text") -> str:
    """A block of code."""
    return f"```{language}\n{text.rstrip()}\n```\n"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table; its cells are Markdown already. A column that is empty in every row is left out."""
    rows = [list(row) for row in rows]
    kept = [index for index in range(len(head)) if any(row[index] for row in rows)]
    lines = [[head[index] for index in kept], ["---"] * len(kept), *([row[index] for index in kept] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"
