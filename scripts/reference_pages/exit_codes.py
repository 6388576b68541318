"""The exit codes of commands, from `carla_mlflow.cli`."""

from __future__ import annotations

from carla_mlflow import cli
from reference_pages.markdown import code, table, words

MEANING = {
    "DONE": "done",
    "REFUSED": "refused, or failed: the last line on stderr says why; `--debug` adds the traceback",
    "USAGE": "the command line, or a setting, is wrong: nothing was done",
    "UNREACHABLE": "a registry or a server did not answer; trying again later may help",
    "INTERRUPTED": "interrupted with Ctrl-C",
}
"""The constants of `carla_mlflow.cli`, in words."""


def exit_codes() -> str:
    """A table."""
    rows = [(code(str(getattr(cli, name))), words(text)) for name, text in MEANING.items()]
    return table(["code", "meaning"], rows)
