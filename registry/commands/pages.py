"""Writes the page of `carla-registry history --html`, with the figures of the runs that the moves rested on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from carla_mlflow.errors import RegistryError, UnreachableError
from carla_mlflow.escaping import one_line
from carla_mlflow.report.page import write_page
from registry.pages.history import History, history_page
from registry.rules.journal import Entry, run_links
from registry.store.run_figures import RunFigures, read_runs


def write_history(path: Path, name: str, entries: Sequence[Entry], problems: list[str], bakes: list[str]) -> None:
    """Writes the page; without the figures where MLflow does not answer for the runs, which the page then says."""
    links = [link for entry in entries if entry.link for link in run_links(entry.link.move)]
    runs: dict[str, RunFigures] = {}
    unread = ""
    try:
        runs = read_runs(links)
    except (RegistryError, UnreachableError) as error:
        unread = one_line(error)
    write_page(path, history_page(History(name, entries, problems, bakes, runs, unread=unread)))
