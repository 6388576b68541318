"""Markdown for the descriptions in MLflow's pages: texts that render as they are, links, tables."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence

from carla_mlflow.escaping import escaped

_MARKUP = re.compile(r"[\\`*_{}\[\]<>()#+!|~&\"=]|(?<=:)/(?=/)|(?<=www)\.")
_RUN = re.compile(r"(?:https?://\S*?/#/experiments/([0-9]+)/runs/([0-9a-f]{32})|runs:/([0-9a-f]{32}))")


def plain(text: str) -> str:
    """Text of any origin that renders as itself: no markup, no link, no image, no line of its own."""
    return _MARKUP.sub(lambda found: f"&#{ord(found[0])};", escaped(text))


def code(text: str) -> str:
    """Text in the style of code; it can't end that by itself."""
    return f"`{escaped(text).replace('`', chr(39)).replace('|', chr(0xA6))}`"


def with_links(text: str) -> str:
    """As `plain`, but runs on a page of MLflow are links, which are relative: the page's address may change."""
    parts, end = [], 0
    for found in _RUN.finditer(text):
        parts += [plain(text[end : found.start()]), run_link(found[2] or found[3], found[1])]
        end = found.end()
    return "".join([*parts, plain(text[end:])])


def run_link(run_id: str, experiment_id: str | None) -> str:
    """A link to a run; its name alone where its experiment is not known."""
    name = f"run {run_id[:8]}"
    return f"[{name}](#/experiments/{experiment_id}/runs/{run_id})" if experiment_id else name


def table(rows: Sequence[Sequence[str]]) -> str:
    """A table of Markdown, headings first; MLflow's style leaves no room between columns, hence the wide space."""
    head, *body = ("| " + " | ".join(f"{cell}&emsp;" for cell in row) + " |" for row in rows)
    return "\n".join([head, "|---" * len(rows[0]) + "|", *body])


def utc(when: float) -> str:
    """Seconds since 1970 → a time that readers anywhere understand."""
    return time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(when))
