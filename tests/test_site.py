"""The documentation as a site: built strictly, with links that lead somewhere, and nothing from other hosts."""

from __future__ import annotations

import html.parser
import shutil
import subprocess
import sys
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from tests_support import ROOT

BROKEN = "[to nowhere](nowhere.md), [to no heading](tutorial.md#no-such-heading)"


def build(config: Path, site: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "mkdocs", "build", "--config-file", str(config), "--site-dir", str(site)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600)


class Page(html.parser.HTMLParser):
    """Where the links of a page lead, what it loads, and the anchors that it has."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.loads: list[str] = []
        self.anchors: set[str] = {""}
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        self.anchors |= {given[name] for name in ("id", "name") if name in given}
        if tag == "a" and "href" in given:
            self.links.append(given["href"])
        if tag in {"link", "script", "img", "source", "iframe"}:
            self.loads += [given[name] for name in ("href", "src", "srcset") if given.get(name)]


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[Path, Page]:
    site = tmp_path_factory.mktemp("site")
    done = build(ROOT / "mkdocs.yml", site)
    assert done.returncode == 0, done.stderr
    return {path: Page(path.read_text()) for path in site.rglob("*.html")}


@pytest.mark.slow
@pytest.mark.xdist_group("site")
def test_every_link_of_the_built_site_leads_to_a_file_and_an_anchor_that_are_there(pages: dict[Path, Page]):
    assert len(pages) > 60
    wrong = []
    for path, page in pages.items():
        for link in page.links:
            parts = urlsplit(link)
            if (
                parts.scheme or path.name == "404.html"
            ):  # an absolute address, for readers alone; a page for any address
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            anchors = pages[target].anchors if target in pages else {""}
            if not target.is_file() or unquote(parts.fragment) not in anchors | {"__skip"}:
                wrong.append(f"{path.name}: {link}")
    assert wrong == []


@pytest.mark.slow
@pytest.mark.xdist_group("site")
def test_no_page_loads_anything_from_another_host(pages: dict[Path, Page]):
    loads = {load for page in pages.values() for load in page.loads}
    assert {load for load in loads if urlsplit(load).netloc or urlsplit(load).scheme not in {"", "data"}} == set()


@pytest.mark.slow
def test_a_link_to_nowhere_and_one_to_no_heading_end_the_build(tmp_path: Path):
    shutil.copytree(ROOT / "docs", tmp_path / "docs")
    with (tmp_path / "docs" / "index.md").open("a") as page:
        page.write(f"\n{BROKEN}\n")
    text = (ROOT / "mkdocs.yml").read_text()
    hook = f"{ROOT}/scripts/docs_hooks.py"
    (tmp_path / "mkdocs.yml").write_text(
        text.replace("scripts/docs_hooks.py]", f"{hook}]").replace("[.]", f"['{ROOT}']")
    )
    done = build(tmp_path / "mkdocs.yml", tmp_path / "site")
    assert done.returncode != 0
    assert "'nowhere.md'" in done.stderr
    assert "#no-such-heading" in done.stderr
