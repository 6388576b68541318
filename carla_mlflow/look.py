"""How commands look: aligned tables, colours on a terminal, times in the reader's zone, sizes in words, progress bars.

What --quiet and --json leave of it is kept here too, as every command prints through these functions.
"""

from __future__ import annotations

import json
import os
import re
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, redirect_stdout
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Literal, TextIO

from .escaping import escaped

if TYPE_CHECKING:
    from tqdm import tqdm

Style = Literal["good", "bad", "doubtful", "heading", "faint"]
CODES: dict[Style, str] = {"good": "32", "bad": "31", "doubtful": "33", "heading": "1", "faint": "2"}
"""Style → the number of its escape sequence (ECMA-48, Select Graphic Rendition)."""
_STYLED = re.compile(r"(\x1b\[(?:0|1|2|31|32|33)m)")
_AGO = ((86_400, "day"), (3_600, "hour"), (60, "minute"), (1, "second"))
SHOW_AFTER_S = 2.0
"""A bar is drawn only for what takes longer, seconds."""


class _Shown:
    """What is shown of the command that runs; see `showing`."""

    quiet: bool = False
    as_json: bool = False
    results: TextIO | None = None  # where JSON goes; None for standard output


shown = _Shown()


@contextmanager
def showing(quiet: bool, as_json: bool) -> Iterator[None]:
    """Sends what a command prints where its flags say, for as long as the block runs.

    Args:
        quiet: nothing is printed but errors and, if asked for, JSON.
        as_json: standard output gets nothing but JSON; what else the command prints goes to standard error.
    """
    before = shown.quiet, shown.as_json, shown.results
    with ExitStack() as stack:
        shown.quiet, shown.as_json, shown.results = quiet, as_json, sys.stdout
        try:
            if quiet or as_json:
                other = stack.enter_context(open(os.devnull, "w")) if quiet else sys.stderr
                stack.enter_context(redirect_stdout(other))
            yield
        finally:
            shown.quiet, shown.as_json, shown.results = before


def has_colours(stream: TextIO) -> bool:
    """Whether a stream is a terminal whose reader has not refused colours (no-color.org)."""
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def styled(text: str, style: Style, stream: TextIO | None = None) -> str:
    """The text in a style where the stream (standard output) has colours; else as it is. Escape the text before."""
    return f"\x1b[{CODES[style]}m{text}\x1b[0m" if has_colours(stream or sys.stdout) else text


def _printable(text: str) -> str:
    """The text escaped but for its line breaks and, where there are colours, its styles."""
    if not has_colours(sys.stdout):
        return escaped(text, keep="\n")
    return "".join(p if _STYLED.fullmatch(p) else escaped(p, keep="\n") for p in _STYLED.split(text))


def show(as_json: bool, text: str, value: Any) -> None:
    """Prints the text, or as one line of JSON the value, whose dataclasses become objects.

    Line breaks in the text are kept, so the caller has to escape whatever somebody typed.
    """
    if as_json:
        print(json.dumps(value, default=asdict), file=shown.results or sys.stdout, flush=True)
    else:
        print(_printable(text), flush=True)


def say_next(command: str, only_to_people: bool = False) -> None:
    """Prints the command that usually comes next, which can be pasted; not with --json.

    Args:
        command: with its names filled in.
        only_to_people: only where standard output is a terminal, as scripts take this command's output as it is.
    """
    if not shown.as_json and (not only_to_people or sys.stdout.isatty()):
        print(f"next: {escaped(command)}", flush=True)


def table(rows: Sequence[Sequence[str]], right: bool = False, headed: bool = True) -> str:
    """Rows of cells → aligned columns.

    Args:
        rows: all of one length; cells are escaped.
        right: whether all columns but the first are aligned to the right, as numbers are.
        headed: whether the first row holds the headings.
    """
    rows = [tuple(map(escaped, row)) for row in rows]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = []
    for row in rows:
        cells = [
            cell.rjust(w) if right and column else cell.ljust(w)
            for column, (cell, w) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  ".join(cells).rstrip())
    if headed:
        lines[0] = styled(lines[0], "heading")
    return "\n".join(lines)


def clock(seconds: float) -> str:
    """Seconds since 1970 → date and time in the reader's zone."""
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(seconds))


def ago(seconds: float, now: float | None = None) -> str:
    """Seconds since 1970 → how long ago that was, in the largest unit that fits: `2 hours ago`."""
    passed = (time.time() if now is None else now) - seconds
    if passed < 1:
        return "just now" if passed > -60 else "in the future"
    unit, name = next(each for each in _AGO if passed >= each[0])
    count = int(passed / unit)
    return f"{count:,} {name}{'' if count == 1 else 's'} ago"


def size(count: float) -> str:
    """Bytes in words: `12 bytes`, `3.4 kB`, `12.0 MB`."""
    if count < 1000:
        return f"{count:.0f} byte{'' if count == 1 else 's'}"
    for unit in ("kB", "MB", "GB"):
        count /= 1000
        if count < 999.95:
            return f"{count:.1f} {unit}"
    return f"{count / 1000:,.1f} TB"


def bar(what: str, total: float | None, unit: str, over: Iterable[Any] = (), **more: Any) -> tqdm[Any]:
    """A progress bar for what takes over SHOW_AFTER_S; in a log file a line now and then; neither with --quiet.

    Args:
        what: what is being done, such as `driving`.
        total: how many there are; None if nobody knows.
        unit: of what is counted, in the singular.
        over: what is iterated over; nothing where `update` is called instead.
        more: for tqdm.
    """
    from tqdm import tqdm

    from .progress_lines import ProgressLines

    kind = tqdm if shown.quiet or sys.stderr.isatty() else ProgressLines
    given = {"desc": what, "total": total, "unit": unit, "leave": False, "delay": SHOW_AFTER_S, "disable": shown.quiet}
    made: tqdm[Any] = kind(over or None, **{**given, **more})
    return made


def progress(step: str) -> None:
    """Prints what a command is doing on stderr, if that is a terminal."""
    if sys.stderr.isatty() and not shown.quiet:
        print(styled(f"… {escaped(step)}", "faint", sys.stderr), file=sys.stderr)


def warn(text: str) -> None:
    """Prints a warning on stderr, unless only errors are wanted; the command goes on."""
    if not shown.quiet:
        print(f"{styled('warning:', 'doubtful', sys.stderr)} {escaped(text)}", file=sys.stderr)
