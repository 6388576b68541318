"""One HTML file for a browser, which asks no other host for anything and is light or dark as its reader is."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path

from ..escaping import escaped

POLICY = "default-src 'none'; style-src 'unsafe-inline'"
"""The page's Content-Security-Policy: a browser then asks nobody for anything, whatever texts the page holds."""
STYLE = """
:root { color-scheme: light dark; --ink: #1b1f24; --soft: #59636e; --paper: #fff; --line: #d5d9e0; --mark: #1f6feb;
  --second: #8250df; --third: #9a6700; --bad: #b3261e; --good: #1a7f37; --tint: #f4f6f9; --differs: #fff3d6; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6e8eb; --soft: #9aa4b2; --paper: #14171c; --line: #343a44; --mark: #6ea8fe; --second: #c297ff;
    --third: #e3b341; --bad: #ff8a80; --good: #5fd07a; --tint: #1c2129; --differs: #3a3016; } }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper); max-width: 60rem;
  margin: 2rem auto; padding: 0 1rem; overflow-wrap: anywhere; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.15rem; margin-top: 2rem; } h3 { font-size: 1rem; margin-bottom: .25rem; }
a { color: var(--mark); } .scroll { overflow-x: auto; }
.scroll + .scroll { margin-top: .75rem; } .scroll:focus-visible { outline: 2px solid var(--mark); }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { text-align: left; padding: .25rem .75rem .25rem 0; border-bottom: 1px solid var(--line); white-space: nowrap;
  vertical-align: top; }
tbody th { font-weight: 400; } .wrap { width: 100%; table-layout: fixed; } .wrap th:first-child { width: 34%; }
.wrap th, .wrap td { white-space: normal; }
figure { margin: 0 0 1rem; } summary { cursor: pointer; color: var(--soft); }
svg { width: 100%; min-width: 36rem; height: auto; display: block; } svg text { fill: var(--soft); font-size: 11px; }
svg .on { fill: var(--paper); font-weight: 600; }
.bar { fill: var(--mark); } .bar.second { fill: var(--second); } .bar.third { fill: var(--third); }
.stroke { stroke: var(--mark); stroke-width: 2; fill: none; } .axis { stroke: var(--line); fill: none; }
.good { color: var(--good); font-weight: 600; } .bad { color: var(--bad); font-weight: 600; }
.doubtful { color: var(--third); font-weight: 600; } .soft { color: var(--soft); }
.differs > * { background: var(--differs); }
blockquote { margin: .5rem 0; padding-left: .75rem; border-left: 3px solid var(--line); }
article { border-left: 3px solid var(--line); padding-left: 1rem; margin: 1.25rem 0; } article h3 { margin-top: 0; }
article p, article ul { margin: .25rem 0; } code { overflow-wrap: anywhere; }
"""


def page(title: str, body: Iterable[str]) -> str:
    """The text of an HTML file: its parts below a heading of the first order."""
    from .. import __version__  # which offers what lies above this file

    head = f'<meta charset="utf-8"><meta http-equiv="Content-Security-Policy" content="{POLICY}">'
    head += '<meta name="viewport" content="width=device-width, initial-scale=1">'
    head += f"<title>{safe(title)}</title><style>{STYLE}</style>"
    written = f'<p class="soft">Written by carla-mlflow {safe(__version__)}.</p>'
    inside = "\n".join([f"<h1>{safe(title)}</h1>", *body, written])
    return f'<!DOCTYPE html>\n<html lang="en"><head>{head}</head><body><main>\n{inside}\n</main></body></html>\n'


def write_page(path: Path, text: str) -> None:
    """Writes the file beside its place, and renames it."""
    beside = path.with_name(f".{path.name}.{os.getpid()}.partial")
    beside.write_text(text, encoding="utf-8")
    os.replace(beside, path)


def safe(text: str) -> str:
    """Text of any origin, without markup and without characters that print nothing."""
    return escape(escaped(text))


def table(rows: Sequence[Sequence[str]], title: str = "", classes: str = "", marked: Sequence[bool] = ()) -> str:
    """A table of texts, which scrolls by itself where the screen is narrower.

    Args:
        rows: the headings first; the first cell of each other row names it.
        title: for readers who don't see it.
        classes: of the table.
        marked: whether each row after the first is shown as one that differs.
    """
    head, *body = rows
    cells = "".join(f'<th scope="col">{safe(cell)}</th>' for cell in head)
    lines = ""
    for place, row in enumerate(body):
        mark = ' class="differs"' if place < len(marked) and marked[place] else ""
        first, *rest = map(safe, row)
        lines += f'<tr{mark}><th scope="row">{first}</th>' + "".join(f"<td>{cell}</td>" for cell in rest) + "</tr>"
    named = f' aria-label="{safe(title)}"' if title else ""
    inside = f'<table class="{classes}"{named}><thead><tr>{cells}</tr></thead><tbody>{lines}</tbody></table>'
    return f'<div class="scroll" role="region" tabindex="0"{named or _UNNAMED}>{inside}</div>'


_UNNAMED = ' aria-label="table"'


def plot(svg: str, title: str, rows: Sequence[Sequence[str]] = ()) -> str:
    """A plot, which scrolls by itself where the screen is narrower, and behind it its numbers as a table."""
    shown = f'<div class="scroll" role="region" tabindex="0" aria-label="{safe(title)}">{svg}</div>'
    numbers = f"<details><summary>as a table</summary>{table(rows, title)}</details>" if rows else ""
    return f"<figure>{shown}{numbers}</figure>"


def link(text: str, address: str) -> str:
    """A link to a page on the web; only the text where the address is none."""
    if not address.startswith(("http://", "https://")):
        return safe(text)
    return f'<a href="{safe(address)}" rel="noreferrer">{safe(text)}</a>'
