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


def journal_of(store: Store, name: str, followed: list[str] | None) -> Journal | None:
    """The journal of a policy; None, with a warning, where it can't be read, and where the registry knows no such one.

    Args:
        store: the registry.
        name: the policy's name, by its card.
        followed: the references that the servers followed, by the recording; none for a folder, None where that is not
            known.
    """
    references = [parse_reference(text) for text in followed or ()]
    if followed is not None and (not references or references[0].is_folder):
        return None
    named = references[0].name if references else name
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
    return Journal(entries, {version.semver: version.digest for version in versions}, references)
