"""The exit codes of all commands (docs/reference/commands.md)."""

from __future__ import annotations

DONE, REFUSED, USAGE, UNREACHABLE, INTERRUPTED = 0, 1, 2, 3, 130
UNREAD = 141
"""As of a program that SIGPIPE ends (128 + 13): whoever read its output left before it was done. In no help text."""

EXIT_CODES = {
    DONE: "done",
    REFUSED: "refused or failed",
    USAGE: "wrong arguments",
    UNREACHABLE: "no answer",
    INTERRUPTED: "interrupted",
}
"""Code → what it means, in two words, for help texts."""
