"""Keeps the descriptions of versions in MLflow's pages current, but for those that people wrote.

It comes after everything that counts, and whatever goes wrong with it is a warning: a move never fails for it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Literal

from carla_mlflow.cli import warn
from carla_mlflow.contract.card import Card
from carla_mlflow.errors import UnreachableError
from carla_mlflow.escaping import one_line
from registry.moves.terms import GateResult
from registry.pages.description import Described, description
from registry.pages.signed import may_replace
from registry.rules.chain import chain
from registry.rules.journal import Entry
from registry.rules.judged import Judged, judged
from registry.store.cache import default_cache, fetch_to_cache
from registry.store.run_figures import latest_evaluation
from registry.store.store import Store

Outcome = Literal["written", "current", "kept", "gone"]
"""What became of a description; `kept`: a person's."""


def describe(
    store: Store,
    name: str,
    versions: Iterable[str | None],
    known: Sequence[Entry],
    cache: Path | None = None,
    card: Card | None = None,
    refused: tuple[str, GateResult] | None = None,
) -> None:
    """Writes the descriptions of these versions where that is allowed and they have changed; warns if it can't.

    Args:
        store: the registry.
        name: the policy's.
        versions: semantic versions; None, and those that are not there, are left out.
        known: the journal's chain as it was read; only newer entries are read again.
        cache: the folder that artifacts are fetched to, whose cards are needed; None for the usual one.
        card: of the version, where it is at hand.
        refused: the stage that the version was just refused for, and what the gates found.
    """
    found = None if refused is None else (refused[0], judged(refused[1].findings))
    entries: Sequence[Entry] = ()
    for semver in [semver for semver in dict.fromkeys(versions) if semver is not None]:
        try:
            entries = entries or chain([*known, *store.journal(name, known[-1].number if known else 0)])
            write_description(store, name, semver, entries, cache, card, found)
        except Exception as error:  # a boundary: the move is made, and a text about it must not make it seem failed
            warn(f"the description of {name} {semver} in MLflow is not up to date: {one_line(error)}")
            if isinstance(error, UnreachableError):
                return  # nor would it answer for the next one


def write_description(
    store: Store,
    name: str,
    semver: str,
    entries: Sequence[Entry],
    cache: Path | None = None,
    card: Card | None = None,
    refused: tuple[str, Sequence[Judged]] | None = None,
) -> Outcome:
    """As `describe`, of one version; raises what goes wrong."""
    version = store.find(name, semver)
    if version is None:
        return "gone"
    before = store.description(version)
    if not may_replace(before):
        return "kept"
    card = card or fetch_to_cache(store, version, cache or default_cache()).card
    text = description(Described(name, card, entries, latest_evaluation(version.digest), refused))
    if text == before:
        return "current"
    if not may_replace(store.description(version)):  # somebody wrote meanwhile; MLflow can't compare and set
        return "kept"
    store.set_description(version, text)
    return "written"
