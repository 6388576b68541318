"""The server's settings: flag, variable, default, allowed values and meaning, from `serve.settings`."""

from __future__ import annotations

import ast
from dataclasses import Field, fields
from pathlib import Path
from typing import Any

from reference_pages.markdown import code, table, words
from serve.settings import CHOICES, POSITIVE_S, PREFIX, RANGES, Settings

RAY_APP = Path(__file__).parents[2] / "serve" / "ray_app.py"


def flags() -> str:
    """A table of the settings that are flags and variables."""
    rows = [_row(f) for f in fields(Settings) if "secret" not in f.metadata]
    return table(["flag and variable", "default", "allowed", "meaning"], rows)


def secrets() -> str:
    """A table of those that are variables only."""
    rows = [[code(_variable(f)), words(f.metadata["help"])] for f in fields(Settings) if "secret" in f.metadata]
    return table(["variable", "meaning"], rows)


def of_ray() -> str:
    """A table of what Ray's application takes beside them."""
    return table(["argument", "default"], [[code(name), code(str(value))] for name, value in ray_arguments().items()])


def ray_arguments() -> dict[str, float]:
    """What Ray's application takes beside the settings; read, not imported, so that Ray need not be installed."""
    for node in ast.parse(RAY_APP.read_text()).body:
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "OF_RAY":
            found: dict[str, float] = ast.literal_eval(node.value)
            return found
    raise LookupError(f"{RAY_APP}: OF_RAY is not there any more")


def _variable(setting: Field[Any]) -> str:
    return PREFIX + setting.name.upper()


def _row(setting: Field[Any]) -> list[str]:
    flag, default = f"--{setting.name.replace('_', '-')}", setting.default
    shown = "off" if default is False else code(str(default))
    return [
        f"{code(flag)}<br>{code(_variable(setting))}",
        shown,
        words(_allowed(setting)),
        words(setting.metadata["help"]),
    ]


def _allowed(setting: Field[Any]) -> str:
    if setting.name in CHOICES:
        return ", ".join(CHOICES[setting.name])
    if setting.name in RANGES:
        low, high = RANGES[setting.name]
        return f"{low:,} to {high:,.0f}"
    return "above 0, to 3,600" if setting.name in POSITIVE_S else ""
