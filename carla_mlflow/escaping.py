"""Text that somebody typed, as it may be shown: it moves no cursor, begins no line, and turns no order around."""

from __future__ import annotations


def escaped(text: str, keep: str = "") -> str:
    r"""The text with what is not printable as Python writes it: `\n`, `\x1b`, `\u202e`.

    Control characters, line and paragraph separators, marks that are not seen (also those that turn the reading
    direction around) and halves of a character are not printable; see `str.isprintable`.

    Args:
        text: of any origin.
        keep: characters that are left as they are.
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c in keep else c.encode("unicode_escape").decode() for c in text)


def one_line(error: BaseException) -> str:
    """An error as one line: an OSError by its file and its reason (`No space left on device`)."""
    if isinstance(error, OSError) and error.strerror:
        return escaped(f"{error.filename}: {error.strerror}" if error.filename else error.strerror)
    return escaped(" ".join(str(error).split())) or type(error).__name__
