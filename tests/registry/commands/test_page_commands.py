"""carla-registry history --html and diff --html, as a user types them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from registry_policies import NAME, registered
from tests_support import registry_here

from registry.store.store import Store

pytestmark = pytest.mark.filterwarnings("ignore")  # MLflow's own


@pytest.fixture(autouse=True)
def store(mlflow_home: Path, tmp_path: Path) -> Store:
    store = Store()
    registered(store, tmp_path, "0.1.0", "0.2.0", production="0.1.0")
    return store


def test_history_and_diff_write_pages_and_replace_those_of_that_name(tmp_path: Path):
    page = tmp_path / "page.html"
    for command in (("diff", f"{NAME}@0.1.0", f"{NAME}@0.2.0"), ("history", NAME)):
        done = registry_here(*command, "--html", str(page), "--json")
        assert done.code == 0, done.err
        assert json.loads(done.out)["html"] == str(page)
    assert f"<h1>History of {NAME}</h1>" in page.read_text()
    assert [file.name for file in tmp_path.glob("*.html")] == [page.name]
    for flags in (("--at", "2020-01-01T00:00"), ("--check",), ("--head", "sha256:0")):
        assert registry_here("history", NAME, "--html", str(page), *flags).code == 2


def test_diff_tells_machines_how_often_actions_are_how_far_apart():
    document = json.loads(registry_here("diff", f"{NAME}@0.1.0", f"{NAME}@0.2.0", "--json").out)
    [steer, acceleration] = document["actions"][0]["distributions"]
    assert (steer["name"], acceleration["name"]) == ("steer", "acceleration")
    assert steer["histogram"][0] == [0.0, 64]
