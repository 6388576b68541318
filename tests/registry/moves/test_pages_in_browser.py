"""What people look at: versions and runs in MLflow's real pages, and the pages of history and diff, in Chromium."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import mlflow
import pytest
from mlflow.entities import RunInfo
from mlflow_ui import edit_description, open_artifact_of_run, open_version, picture
from playwright.sync_api import Browser, Page, expect
from registry_policies import cache_folder, enter, roll_back, steering, to_stage
from tests_support import registry_here

from benchmarks.support.mlflow_server import MlflowServer
from carla_mlflow.flavor.opening import PolicyIdentity
from registry.moves.compare_runs import FILE
from registry.moves.judge import promotion_gates
from registry.moves.promotion import promote
from registry.moves.terms import MoveOptions
from registry.rules.reference import parse_reference
from registry.store.store import Store
from training_export.evaluation.evidence_run import log_drives

pytestmark = [
    pytest.mark.slow,
    pytest.mark.browser,
    pytest.mark.xdist_group("browser"),
    pytest.mark.filterwarnings("ignore"),  # MLflow's own
]
NAME, SCRIPT = "lane-keeper", "<script>document.title = 'run'</script>"
FIRST_SEED, EPISODES = 1_000_000, 200
CONDITIONS = {"env": "town05", "env_version": "0.9.15", "first_seed": FIRST_SEED, "episodes": EPISODES}


def log_evaluation(version: str, digest: str, failing: int) -> RunInfo:
    """Logs episodes of a simulator that is made up."""
    rows = [
        {"driver": driver, "seed": FIRST_SEED + n, "reward": 250.0 - 200 * bad, "collision": bad, "success": not bad}
        for driver, most in (("policy", failing), ("baseline", EPISODES))
        for n in range(EPISODES)
        for bad in [n < most]
    ]
    figures = {
        "policy": {"episodes": EPISODES, "success_rate": 1 - failing / EPISODES, "collision_rate": failing / EPISODES},
        "baseline": {"episodes": EPISODES, "success_rate": 0.0, "collision_rate": 1.0},
    }
    with mlflow.start_run(run_name=f"evaluate {NAME} {version}") as run:
        log_drives(PolicyIdentity(NAME, version, digest), {}, CONDITIONS, figures, rows)
    return run.info


@dataclass
class Moved:
    """A policy after some moves: 0.1.0 drives again, and there is a page of its history and one of its differences."""

    server: MlflowServer
    evaluation: RunInfo
    history: Path
    diff: Path


@pytest.fixture(scope="module")
def moved(start_mlflow: Callable[..., MlflowServer], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Moved]:
    folder, server = tmp_path_factory.mktemp("moved"), start_mlflow("sqlite")
    with pytest.MonkeyPatch.context() as patched:
        patched.chdir(folder)
        patched.setenv("MLFLOW_TRACKING_URI", server.uri)
        patched.setenv("XDG_CACHE_HOME", str(folder / "cache"))
        patched.setattr(mlflow.tracking.fluent, "_active_experiment_id", None)
        store, gates = Store(), promotion_gates("production")
        runs = []
        moves = (("0.1.0", 6, f"the first one {SCRIPT}"), ("0.2.0", 4, "brakes earlier"))
        for number, (version, failing, reason) in enumerate(moves):
            text = f"follows its lane, with {failing} faults in {EPISODES} episodes"
            place = steering(folder, version, 1.0 - 0.02 * number, description=text)
            registered, _ = enter(store, place, NAME)
            runs.append(log_evaluation(version, registered.digest, failing))
            to_stage(store, f"{NAME}@{version}", "staging")
            reference = parse_reference(f"{NAME}@{version}")
            promote(store, reference, "production", cache_folder(), MoveOptions(reason=reason), gates)
        roll_back(store, name=NAME, reason="it brakes at every bridge")
        pages = folder / "history.html", folder / "diff.html"
        for command in (("history", NAME), ("diff", f"{NAME}@0.1.0", f"{NAME}@0.2.0")):
            done = registry_here(*command, "--html", str(folder / f"{command[0]}.html"))
            assert done.code == 0, done.err
        yield Moved(server, runs[1], *pages)
    server.kill()


def test_mlflows_page_of_a_version_shows_the_description_and_keeps_what_a_person_makes_of_it(moved: Moved, page: Page):
    page.set_viewport_size({"width": 1100, "height": 1000})
    open_version(page, moved.server.uri, NAME, "2")
    expect(page.get_by_role("cell", name="sensors")).to_be_visible()
    expect(page.get_by_text("all passed")).to_be_visible()
    expect(page.get_by_text("carla-mlflow wrote this")).to_have_count(0)
    run = moved.evaluation
    link = page.get_by_role("link", name=f"run {run.run_id[:8]}").first
    picture(page, "images/mlflow-version.png")
    assert link.get_attribute("href") == f"#/experiments/{run.experiment_id}/runs/{run.run_id}"
    edit_description(page, "Mine now")
    told = registry_here("describe", f"{NAME}@0.2.0", env={"MLFLOW_TRACKING_URI": moved.server.uri})
    assert "kept: a person wrote it" in told.out


def test_mlflows_page_of_a_run_shows_the_comparison_with_the_champion(moved: Moved, page: Page):
    page.set_viewport_size({"width": 1100, "height": 800})
    open_artifact_of_run(page, moved.server.uri, moved.evaluation.experiment_id, moved.evaluation.run_id, FILE)
    shown = page.frame_locator("iframe").last
    expect(shown.get_by_role("heading", name="What the gates found")).to_be_visible()
    picture(page, "images/mlflow-run.png")


@pytest.mark.parametrize("which", ["history", "diff"])
@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_a_page_fits_from_desktop_to_phone_in_both_themes_and_asks_no_host(
    moved: Moved, browser: Browser, which: str, theme: str, width: int
):
    file: Path = getattr(moved, which)
    with browser.new_context(viewport={"width": width, "height": 900}, color_scheme=theme) as profile:  # type: ignore[arg-type]
        page, asked, said = profile.new_page(), [], []
        page.on("request", lambda request: asked.append(request.url))
        page.on("console", lambda message: said.append(message.text))
        page.goto(file.as_uri())
        assert asked == [file.as_uri()]
        assert said == []
        assert page.title() != "run"
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        paper, ink = page.evaluate("(s => [s.backgroundColor, s.color])(getComputedStyle(document.body))")
        assert (brightness(paper) > brightness(ink)) == (theme == "light")
        for summary in page.locator("summary").all():  # the tables behind the plots, too
            summary.click()
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        expect(page.get_by_role("img").first).to_be_visible()
        if (theme, width) == ("light", 1280):
            page.goto("about:blank")
            page.goto(file.as_uri())
            page.set_viewport_size({"width": 1000, "height": 1100})
            picture(page, f"images/{which}.png")


def brightness(colour: str) -> float:
    """Of `rgb(1, 2, 3)`."""
    return sum(map(float, colour.removeprefix("rgb(").removesuffix(")").split(",")))
