"""The names of the Python API; mkdocstrings writes what their docstrings say."""

from __future__ import annotations

from collections.abc import Iterable

import carla_agent
import carla_mlflow
from carla_mlflow import errors
from reference_pages.markdown import block


def core() -> str:
    """What `carla_mlflow` exports, without its exceptions."""
    return _listed(f"carla_mlflow.{home}.{name}" for name, home in carla_mlflow._HOMES.items() if home != "errors")


def car() -> str:
    """What `carla_agent` exports."""
    return _listed(f"carla_agent.{home}.{name}" for name, home in carla_agent._HOMES.items())


def exception_tree() -> str:
    """The tree in the docstring of `carla_mlflow.errors`."""
    return block((errors.__doc__ or "").partition("\n\n")[2].strip())


def exceptions() -> str:
    """Each exception."""
    every = (name for name, value in vars(errors).items() if isinstance(value, type) and issubclass(value, Exception))
    return _listed(f"carla_mlflow.errors.{name}" for name in every)


def _listed(paths: Iterable[str]) -> str:
    """For mkdocstrings, by the last name."""
    return "\n".join(f"::: {path}\n" for path in sorted(paths, key=lambda path: path.rpartition(".")[2]))
