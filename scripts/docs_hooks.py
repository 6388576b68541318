"""What mkdocs calls while it builds the site: fills pages with what is generated from the code, and lists the ADRs."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page
from reference_pages import FILES, PARTS

DECISIONS = "Decisions"
"""The entry of the navigation that gets every file of docs/adr, in their order."""
PLACE = re.compile(r"^<!-- generated: (\S+) -->$", re.MULTILINE)
"""The line of a page that a generated part takes the place of."""


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Lists the ADRs in the navigation, so that a new one needs no line in mkdocs.yml."""
    found = sorted(f"adr/{path.name}" for path in (Path(config.docs_dir) / "adr").glob("*.md"))
    _fill(config.nav or [], found)
    return config


def _fill(entries: list[Any], decisions: list[str]) -> None:
    for entry in entries:
        for title, below in entry.items() if isinstance(entry, dict) else ():
            if title == DECISIONS:
                entry[title] = decisions
            elif isinstance(below, list):
                _fill(below, decisions)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds the files that are generated whole: JSON schemas, and the OpenAPI document of the example policy."""
    for path, written in FILES.items():
        files.append(File.generated(config, path, content=written()))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Puts generated parts into a page.

    Raises:
        PluginError: a page asks for a part that nothing generates.
    """
    names = PLACE.findall(markdown)
    if unknown := [name for name in names if name not in PARTS]:
        raise PluginError(f"{page.file.src_path}: nothing generates {', '.join(unknown)}")
    return PLACE.sub(lambda found: PARTS[found[1]](), markdown)
