"""Reads the settings from command-line flags and POLICY_ environment variables; a flag wins."""

from __future__ import annotations

import difflib
import os
import re
import sys
from collections.abc import Collection, Mapping, Sequence
from dataclasses import Field, fields
from typing import Any

from carla_mlflow.command_parser import CommandParser, add_help
from carla_mlflow.errors import CarlaMlflowError
from carla_mlflow.escaping import one_line
from carla_mlflow.flavor.environment import given_by, read_secret, state_key
from serve.baked import BAKED, baked
from serve.flag_groups import GROUPS, metavar_of
from serve.run_folder import HINT_FD, RINGS_FOLDER, SERVER_PID, STATUS_FILE
from serve.settings import CHOICES, PREFIX, Settings

_CASELESS = {*CHOICES, "device"}
_OF_A_SERVICE = re.compile(
    r"POLICY\w*?(_SERVICE_HOST|_SERVICE_PORT(_\w+)?|_PORT|_PORT_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)"
)
"""Variables that Kubernetes sets in every pod for a Service whose name begins with `policy`."""


NOT_OF_SOCKETS = {
    "port": "a Unix socket has no port (the host is one); leave --port out, or choose another --host",
    "allowed_hosts": "on a Unix socket no Host is checked, as no web page can reach it; leave --allowed-hosts out",
}
"""Settings that a server on a Unix socket does not use: flags of these names are refused."""


def _type_of(setting: Field[Any]) -> type[Any]:
    kind: type[Any] = type(setting.default)
    return kind


def settings_from_environment(environment: Mapping[str, str]) -> Settings:
    """Reads the POLICY_ variables; a secret may also come from the file that POLICY_…_FILE names.

    Raises:
        ValueError: a value has the wrong type, or a file can't be read; names the variable.
    """
    values: dict[str, Any] = {}
    for f in fields(Settings):
        text = environment.get(PREFIX + f.name.upper())
        if f.name == "port" and text and "://" in text:  # set by Kubernetes for a Service named `policy`
            text = None
        if "secret" in f.metadata:
            text = _secret(environment, f.name)
        if text is not None:
            text = text.lower() if f.name in _CASELESS else text
            try:
                values[f.name] = _yes_or_no(text) if _type_of(f) is bool else _type_of(f)(text)
            except ValueError as error:
                kinds = {int: "a whole number", float: "a number", bool: "true or false"}
                raise ValueError(f"{PREFIX}{f.name.upper()}={text!r}: expected {kinds[_type_of(f)]}") from error
    return Settings(**values)


def _yes_or_no(text: str) -> bool:
    """Reads true or false, as `str` writes them, in any case, or 1 or 0; an empty text is false."""
    known = {"true": True, "1": True, "false": False, "0": False, "": False}
    if text.lower() not in known:
        raise ValueError(text)
    return known[text.lower()]


def _secret(environment: Mapping[str, str], name: str) -> str | None:
    variable = PREFIX + name.upper()
    try:
        if name == "state_key":
            return state_key(environment)
        secret = read_secret(environment, variable)
    except CarlaMlflowError as error:
        raise ValueError(one_line(error)) from error
    if not secret and {variable, f"{variable}_FILE"} & environment.keys():  # who sets it does not mean to let all in
        raise ValueError(f"{given_by(environment, variable)}: it is empty; fill it, or unset it to serve without")
    return secret


def unknown_variables(environment: Mapping[str, str]) -> str | None:
    """Returns a message that names unknown POLICY_ variables and similar settings; None when all are known."""
    settings = [f.name.upper() for f in fields(Settings)]
    settings += [f"{f.name.upper()}_FILE" for f in fields(Settings) if "secret" in f.metadata]
    known = {BAKED, STATUS_FILE, SERVER_PID, HINT_FD, RINGS_FOLDER, *(PREFIX + name for name in settings)}
    unknown = []
    for name in sorted(environment):
        if name.startswith(PREFIX) and name not in known and not _OF_A_SERVICE.fullmatch(name):
            near = difflib.get_close_matches(name.removeprefix(PREFIX), settings, n=1)
            unknown.append(f"{name!r} is no setting" + (f" (is {PREFIX}{near[0]} meant?)" if near else ""))
    return "; ".join(unknown) or None


def unused_flags(given: Collection[str], settings: Settings) -> list[str]:
    """Returns a message for each flag that contradicts the kind of address; `given` are the flags' settings.

    Only of flags: an image or a unit may set variables such as POLICY_PORT for both kinds.
    """
    if settings.is_unix:
        return [f"{name}: {why}" for name, why in NOT_OF_SOCKETS.items() if name in given]
    if "socket_mode" in given:
        return [f"socket_mode: {settings.host} is no Unix socket, such as --host unix:/run/policy.sock"]
    return []


def unused_variables(environment: Mapping[str, str], settings: Settings) -> str | None:
    """Returns a message that names the variables which a server on a Unix socket does not use; None without any."""
    names = [PREFIX + name.upper() for name in NOT_OF_SOCKETS if environment.get(PREFIX + name.upper())]
    if not settings.is_unix or not names:
        return None
    return f"not used, as the server listens on {settings.address}: {', '.join(names)}"


def with_baked(environment: Mapping[str, str]) -> dict[str, str]:
    """Adds the image's policy as POLICY_MODEL, pinned by POLICY_DIGEST, unless the environment names a model."""
    found = baked(environment.get(BAKED, "")) if not environment.get(PREFIX + "MODEL") else None
    return {**environment, **({PREFIX + "MODEL": found[0], PREFIX + "DIGEST": found[1]} if found else {})}


def build_parser(is_completed: bool = False) -> CommandParser:
    """The parser of carla-serve's flags; those that are not given are None.

    Args:
        is_completed: whether a shell completes by it, and has to know the choices, which `Settings` itself checks.
    """
    parser = CommandParser(
        "carla-serve", EXAMPLES, NOTES, description="Serves a driving policy over HTTP, verified before it is ready."
    )
    settings = {f.name: f for f in fields(Settings)}
    for title, names in GROUPS.items():
        group = parser.add_argument_group(title)
        for f in (settings[name] for name in names):
            flag, text = "--" + f.name.replace("_", "-"), f.metadata["help"]
            if _type_of(f) is bool:
                group.add_argument(flag, action="store_true", default=None, help=text)
                continue
            default = f" (default {f.default})" if f.default != "" else ""
            shown = metavar_of(f.name)
            action = group.add_argument(flag, type=_type_of(f), metavar=shown, help=text + default)
            action.choices = CHOICES.get(f.name) if is_completed else None
    group = parser.add_argument_group("output and help")
    group.add_argument("--quiet", action="store_true", help="log errors only: --log-level error")
    group.add_argument("--debug", action="store_true", help="log everything, --log-level debug, and show tracebacks")
    add_help(parser, group)
    return parser


EXAMPLES = (
    "carla-serve --model examples/v0.1.0",
    "carla-serve --model carla-policy@production --port 8080 --workers 2",
    "carla-serve --model carla-policy@production --host unix:/run/policy.sock",
    "carla-serve --model policies/@^0.1 --record recordings",
)
_SECRETS = "\n".join(
    f"  {PREFIX}{f.name.upper()} (or {PREFIX}{f.name.upper()}_FILE, which names a file that holds it):\n"
    f"    {f.metadata['help']}"
    for f in fields(Settings)
    if "secret" in f.metadata
)
NOTES = f"""\
Each flag can also be set by a variable, such as POLICY_MAX_BATCH for --max-batch; a flag wins. Only by a variable:
{_SECRETS}
To score files of logged drives instead: python -m serve score. To replay what --record wrote: python -m serve replay.
Completion for a shell: carla-serve completion bash, zsh or fish (docs/reference/commands.md).
"""


def parse_settings(arguments: Sequence[str] | None) -> Settings:
    """Reads flags and POLICY_ variables; prints what is invalid and exits with 2."""
    parser = build_parser()
    given = list(sys.argv[1:] if arguments is None else arguments)
    if given and not given[0].startswith("-"):
        near = difflib.get_close_matches(given[0], ("score", "replay", "completion"), 1)
        hint = f"did you mean {near[0]}?" if near else f"to serve it: --model {given[0]}"
        parser.error(f"{given[0]!r} is neither a flag nor score or replay; {hint}")
    options = parser.parse_args(given)
    levels = [level for level, asked in (("error", options.quiet), ("debug", options.debug)) if asked]
    if len(levels) + (options.log_level is not None) > 1:
        parser.error("--quiet, --debug and --log-level say the same: give one of them")
    options.log_level = levels[0] if levels else options.log_level
    names = [name for group in GROUPS.values() for name in group]
    flags = {name: getattr(options, name) for name in names if getattr(options, name) is not None}
    try:
        asked = {**os.environ, **{PREFIX + k.upper(): str(v) for k, v in flags.items()}}
        settings = settings_from_environment(with_baked(asked))
    except ValueError as error:
        parser.error(str(error))
    problems = settings.problems() + unused_flags(flags, settings)
    if problems:
        parser.error("; ".join(problems))
    return settings
