"""Where settings come from: flags over POLICY_ variables, read once."""

from __future__ import annotations

import argparse
import os
from collections.abc import Mapping, Sequence
from dataclasses import Field, fields
from typing import Any

from serve.settings import PREFIX, Settings


def _type_of(setting: Field[Any]) -> type[Any]:
    kind: type[Any] = type(setting.default)
    return kind


def settings_from_environment(environment: Mapping[str, str]) -> Settings:
    """Reads POLICY_ variables.

    Raises:
        ValueError: a value is not of its type; names the variable.
    """
    values = {}
    for f in fields(Settings):
        text = environment.get(PREFIX + f.name.upper())
        if text is not None:
            try:
                values[f.name] = _type_of(f)(text)
            except ValueError as error:
                raise ValueError(f"{PREFIX}{f.name.upper()}={text!r}: expected a {_type_of(f).__name__}") from error
    return Settings(**values)


def parse_settings(arguments: Sequence[str] | None) -> Settings:
    """Reads flags over POLICY_ variables; prints what is wrong and exits with 2."""
    parser = argparse.ArgumentParser(
        "carla-serve", description="Serves a driving policy over HTTP, verified before it is ready."
    )
    parser.epilog = "each flag may also be set as POLICY_ and its name: --max-batch is POLICY_MAX_BATCH; a flag wins. "
    parser.epilog += "; ".join(
        f"{PREFIX}{f.name.upper()}, which is no flag: {f.metadata['help']}"
        for f in fields(Settings)
        if "secret" in f.metadata
    )
    flags = [f for f in fields(Settings) if "secret" not in f.metadata]
    for f in flags:
        default = f" (default {f.default})" if f.default != "" else ""
        parser.add_argument("--" + f.name.replace("_", "-"), type=_type_of(f), help=f.metadata["help"] + default)
    options = parser.parse_args(arguments)
    given = {f.name: getattr(options, f.name) for f in flags if getattr(options, f.name) is not None}
    try:
        settings = settings_from_environment({**os.environ, **{PREFIX + k.upper(): str(v) for k, v in given.items()}})
    except ValueError as error:
        parser.error(str(error))
    problems = settings.problems()
    if problems:
        parser.error("; ".join(problems))
    return settings
