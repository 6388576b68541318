"""Keeps the descriptions of versions in MLflow's pages current, but for those that people wrote.

It comes after everything that counts, and whatever goes wrong with it is a warning: a move never fails for it.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from carla_mlflow.cli import warn
from carla_mlflow.contract.card import Card
from carla_mlflow.escaping import one_line
from registry.moves.terms import GateResult
from registry.pages.description import Described, description
from registry.pages.signed import may_replace
from registry.rules.chain import chain
from registry.rules.judged import judged
from registry.store.cache import default_cache, fetch_to_cache
from registry.store.run_figures import latest_evaluation
from registry.store.store import Store


def describe(
    store: Store,
    name: str,
    versions: Iterable[str | None],
    cache: Path | None = None,
    card: Card | None = None,
    refused: tuple[str, GateResult] | None = None,
) -> None:
    """Writes the descriptions of these versions where that is allowed and they have changed; warns if it can't.

    Args:
        store: the registry.
        name: the policy's.
        versions: semantic versions; None, and those that are not there, are left out.
        cache: the folder that artifacts are fetched to, whose cards are needed; None for the usual one.
        card: of the version, where it is at hand.
        refused: the stage that the version was just refused for, and what the gates found.
    """
    for semver in dict.fromkeys(versions):
        try:
            if semver is not None:
                write_description(store, name, semver, cache, card, refused)
        except Exception as error:  # a boundary: the move is made, and a text about it must not make it seem failed
            warn(f"the description of {name} {semver} in MLflow is not up to date: {one_line(error)}")


def write_description(
    store: Store,
    name: str,
    semver: str,
    cache: Path | None = None,
    card: Card | None = None,
    refused: tuple[str, GateResult] | None = None,
) -> str:
    """As `describe`, of one version; returns `written`, `current`, `kept` (a person's) or `gone`."""
    version = store.find(name, semver)
    if version is None:
        return "gone"
    before = store.description(version)
    if not may_replace(before):
        return "kept"
    card = card or fetch_to_cache(store, version, cache or default_cache()).card
    found = None if refused is None else (refused[0], judged(refused[1].findings))
    entries = chain(store.journal(name))
    text = description(Described(name, card, entries, latest_evaluation(version.digest), found))
    if text == before:
        return "current"
    if not may_replace(store.description(version)):  # somebody wrote meanwhile; MLflow can't compare and set
        return "kept"
    store.set_description(version, text)
    return "written"
