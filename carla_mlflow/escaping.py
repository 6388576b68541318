"""Escapes untrusted text for display, so that it can't move the cursor, begin a line or reverse the reading order."""

from __future__ import annotations


def escaped(text: str, keep: str = "") -> str:
    r"""The text with each unprintable character as its Python escape: `\n`, `\x1b`, `\u202e`.

    Unprintable are control characters, line and paragraph separators, invisible marks (also those that reverse the
    reading direction) and lone surrogates; see `str.isprintable`.

    Args:
        text: of any origin.
        keep: characters that are left as they are.
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c in keep else c.encode("unicode_escape").decode() for c in text)


def one_line(error: BaseException) -> str:
    """An error as one line; an OSError as its file and its reason (`No space left on device`)."""
    if isinstance(error, OSError) and error.strerror:
        return escaped(f"{error.filename}: {error.strerror}" if error.filename else error.strerror)
    return escaped(" ".join(str(error).split())) or type(error).__name__
