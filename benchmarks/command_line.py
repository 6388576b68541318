"""Makes each benchmark's --help from its module's docstring."""

from __future__ import annotations

import argparse
from pathlib import Path

EXAMPLE = Path("examples/v0.1.0")


def parser_of(docstring: str | None) -> argparse.ArgumentParser:
    """A parser for the module whose docstring begins `python -m benchmarks.NAME …: what it measures`."""
    text = docstring or ""
    program = " ".join(text.split(maxsplit=3)[:3]).rstrip(":")
    return argparse.ArgumentParser(program, description=text, formatter_class=argparse.RawDescriptionHelpFormatter)
