"""The exit codes of commands, from `carla_mlflow.exit_codes`."""

from __future__ import annotations

from carla_mlflow.exit_codes import DONE, EXIT_CODES, INTERRUPTED, REFUSED, UNREACHABLE, USAGE
from reference_pages.markdown import code, table, words

MEANING = {
    DONE: "done",
    REFUSED: "refused, or failed: the last line on stderr says why; `--debug` adds the traceback",
    USAGE: "the command line, or a setting, is wrong: nothing was done",
    UNREACHABLE: "a registry, a server or a simulator did not answer; trying again later may help",
    INTERRUPTED: "interrupted with Ctrl-C; what `train` has reached is kept",
}
"""Code → what it means, in a sentence."""


def exit_codes() -> str:
    """A table."""
    rows = [(code(str(number)), words(MEANING[number])) for number in EXIT_CODES]
    return table(["code", "meaning"], rows)
