"""Reads from the registry what its journal says of a policy."""

from __future__ import annotations

from typing import TYPE_CHECKING

from carla_mlflow.cli import warn
from carla_mlflow.errors import NotFoundError, RegistryError, UnreachableError
from carla_mlflow.escaping import one_line
from registry.rules.chain import chain, problems
from registry.rules.reference import parse_reference
from serve.replay.drove import Journal

if TYPE_CHECKING:
    from registry.store.store import Store


def journal_of(store: Store, name: str, followed: str | None) -> Journal | None:
    """The journal of a policy; None, with a warning, where it can't be read, and where the registry knows no such one.

    Args:
        store: the registry.
        name: the policy's name, by its card.
        followed: the reference that the server followed, by the recording; empty for a folder, None where it is not
            known.
    """
    alias, named = "", name
    if followed is not None:
        try:
            reference = parse_reference(followed)
        except RegistryError:
            return None  # one artifact's folder
        if reference.is_folder:
            return None
        named, alias = reference.name, reference.value.lower() if reference.kind in {"alias", "stage"} else ""
    try:
        every = store.journal(named)
        versions = store.listed(named).versions
    except NotFoundError:
        return None
    except (RegistryError, UnreachableError) as error:
        warn(f"the journal of {named} can't be read: {one_line(error)}")
        return None
    entries = chain(every)
    broken = problems(entries, None, {entry.number for entry in every})
    if broken:
        warn(f"the journal of {named} is not intact: {'; '.join(broken)}")
    return Journal(entries, {version.semver: version.digest for version in versions}, alias)
