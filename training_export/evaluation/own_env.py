"""An environment of the author's own: one that gymnasium knows, or one that the author's function returns."""

from __future__ import annotations

import hashlib
import importlib.metadata
import inspect
import json
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import gymnasium
from gymnasium.error import UnregisteredEnv

from carla_mlflow.contract.strict_yaml import read_yaml
from carla_mlflow.errors import CarlaMlflowError, DrivingError
from carla_mlflow.escaping import one_line
from training_export.sources.from_module import import_code


@dataclass(frozen=True)
class OwnEnv:
    """An opened environment.

    Attributes:
        env: ready for its first reset.
        name: as given by the user.
        version: identifies the environment's code and arguments; evaluations are compared only if it is equal.
        arguments: with which it was made.
    """

    env: gymnasium.Env[Any, Any]
    name: str
    version: str
    arguments: Mapping[str, Any] = field(default_factory=dict)


def open_own_env(name: str, config: Path | None) -> OwnEnv:
    """Makes an environment. This runs its author's code, and prints so before importing any of it.

    Args:
        name: an id that gymnasium knows (`package:ID` imports the package that registers it), or `my_env.py:make`.
        config: YAML or JSON with the keyword arguments of `gymnasium.make`, or of that function.

    Raises:
        DrivingError: there is no environment of that name, its code fails, or the result is not an environment.
        CardError: the file of arguments is not YAML.
    """
    arguments = _arguments(config)
    if is_function(name):
        made = call(name, lambda: load_function(name)(**arguments))
    else:
        _announce(name)
        try:
            made = call(name, lambda: gymnasium.make(name, **arguments))
        except DrivingError as error:
            if isinstance(error.__cause__, UnregisteredEnv):
                raise DrivingError(
                    f"{name}: gymnasium knows no such environment; a package registers its own when it is imported: "
                    f"--env PACKAGE:{name}. Or give a function of yours that returns one: --env my_env.py:make"
                ) from error
            raise
    if not isinstance(made, gymnasium.Env):
        raise DrivingError(f"{name}: made a {type(made).__name__}; expected a gymnasium.Env")
    return OwnEnv(made, name, _version(name, made, arguments), arguments)


def is_function(name: str) -> bool:
    """Whether the name has the form `FILE.py:FUNCTION`."""
    return name.rpartition(":")[0].endswith(".py")


def load_function(name: str) -> Callable[..., Any]:
    """The function that `FILE.py:FUNCTION` names; DrivingError when there is none."""
    where, _, function = name.rpartition(":")
    if not Path(where).is_file():
        raise DrivingError(f"{name}: there is no file {where!r}; expected FILE.py:FUNCTION of your own")
    _announce(where)
    module = call(name, lambda: import_code(where))
    if not hasattr(module, function):
        own = [key for key, value in vars(module).items() if getattr(value, "__module__", "") == module.__name__]
        raise DrivingError(f"{name}: {where} has no {function!r}; it has {', '.join(own) or 'no function'}")
    loaded = call(name, lambda: getattr(module, function))
    if not callable(loaded):
        raise DrivingError(f"{name}: is a {type(loaded).__name__}; expected a function")
    return loaded  # type: ignore[no-any-return]  # `callable` checked it


def call(what: str, function: Callable[[], Any]) -> Any:
    """Runs the author's code, which errors call `what`; any exception becomes a DrivingError."""
    try:
        return function()
    except CarlaMlflowError:
        raise
    except (Exception, SystemExit) as error:  # SystemExit: its sys.exit() must not end this program
        raise DrivingError(f"{what}: raised {type(error).__name__}: {one_line(error)}") from error


def _announce(what: str) -> None:
    print(f"running the code of {what}, which has all of your permissions", file=sys.stderr, flush=True)


def _arguments(config: Path | None) -> dict[str, Any]:
    if config is None:
        return {}
    arguments = read_yaml(config.read_bytes(), str(config))
    if not isinstance(arguments, dict) or not all(isinstance(key, str) for key in arguments):
        raise DrivingError(f"{config}: expected the environment's keyword arguments, such as `duration: 30`")
    return arguments


def _version(name: str, env: gymnasium.Env[Any, Any], arguments: dict[str, Any]) -> str:
    """The environment's id, its package's version, and hashes of the function's file and of the arguments."""
    parts = []
    if is_function(name):
        parts.append(f"{name.rpartition(':')[2]} of file {_short_hash(Path(name.rpartition(':')[0]).read_bytes())}")
    if env.spec is not None:
        parts.append(env.spec.id)
    kind = type(env.unwrapped)
    for package in importlib.metadata.packages_distributions().get(kind.__module__.partition(".")[0], [])[:1]:
        parts.append(f"{package} {importlib.metadata.version(package)}")
        break
    else:
        source = inspect.getsourcefile(kind)
        if source is not None:
            parts.append(f"{kind.__name__} in file {_short_hash(Path(source).read_bytes())}")
    if arguments:
        parts.append(f"config {_short_hash(json.dumps(arguments, sort_keys=True, default=str).encode())}")
    return ", ".join(parts)


def _short_hash(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:8]
