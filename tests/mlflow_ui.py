"""Promoting and registering as a person does: by clicks in MLflow's own pages. The page makes the request."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mlflow.entities import LoggedModel
from PIL import Image
from playwright.sync_api import Browser, Page, expect, sync_playwright
from tests_support import ROOT, missing

CHROMIUM = "/usr/bin/chromium"
FLAGS = [
    "--no-sandbox",  # which root can't have
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
WAIT_MS = 60_000
"""How long a page is waited for, as the machine may be busy; Playwright's own 5 s for what is expected are too few."""
SCREENSHOTS = "SAVE_SCREENSHOTS"
"""The variable that asks for new pictures in docs."""


@contextmanager
def open_browser() -> Iterator[Browser]:
    """Debian's Chromium, without a window."""
    if not Path(CHROMIUM).exists():
        missing("Chromium", "chromium")
    expect.set_options(timeout=WAIT_MS)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        try:
            yield browser
        finally:
            browser.close()


@contextmanager
def open_page(browser: Browser) -> Iterator[Page]:
    """A page with a profile of its own: MLflow's UI remembers its switches."""
    with browser.new_context(viewport={"width": 1200, "height": 640}) as profile:
        page = profile.new_page()
        page.set_default_timeout(WAIT_MS)
        yield page


def set_alias(page: Page, uri: str, name: str, number: str, alias: str) -> dict[str, Any]:
    """Gives a version an alias on its page; returns the request that the page made."""
    open_version(page, uri, name, number)
    page.get_by_role("button", name="Add").first.click()  # beside "Aliases"; the next one is for tags
    dialog = page.get_by_role("dialog")
    box = dialog.get_by_role("combobox")
    box.press_sequentially(alias)
    box.press("Enter")
    save = dialog.get_by_role("button", name="Save aliases")
    picture(page, "promote-alias.png")
    with page.expect_response(lambda answer: answer.url.endswith("registered-models/alias")) as answered:
        save.click()
    assert answered.value.ok
    return json.loads(answered.value.request.post_data)


def set_stage(page: Page, uri: str, name: str, number: str, stage: str) -> dict[str, Any]:
    """Moves a version to a legacy stage on its page; returns the request that the page made."""
    open_version(page, uri, name, number)
    page.get_by_role("switch", name="New model registry UI").click()  # only the old pages can change a stage
    page.get_by_role("dialog").get_by_role("button", name="Disable").click()
    page.get_by_text("None", exact=True).first.click()
    choice = page.get_by_role("menu").get_by_text(stage, exact=True)
    choice.wait_for()
    picture(page, "promote-stage.png")
    choice.click()
    with page.expect_response(lambda answer: answer.url.endswith("transition-stage")) as answered:
        page.get_by_role("dialog").get_by_role("button", name="OK").click()
    assert answered.value.ok
    return json.loads(answered.value.request.post_data)


def promote_model(page: Page, uri: str, name: str, number: str, target: str, new: bool = False) -> dict[str, Any]:
    """Copies a version into another registered model, by the button on its page; returns the page's request."""
    open_version(page, uri, name, number)
    page.get_by_role("button", name="Promote model").click()
    return _create_in(page, target, new, "Promote")


def register_model(page: Page, uri: str, model: LoggedModel, target: str, new: bool = False) -> dict[str, Any]:
    """Registers a logged model, by the button on its page; returns the page's request."""
    page.goto(f"{uri}/#/experiments/{model.experiment_id}/models/{model.model_id}")
    page.get_by_role("button", name="Register model").click()
    return _create_in(page, target, new, "Register")


def _create_in(page: Page, target: str, new: bool, button: str) -> dict[str, Any]:
    """Chooses a registered model in the dialog, or types the name of a new one, and confirms."""
    dialog = page.get_by_role("dialog")
    dialog.get_by_role("combobox").click()
    page.get_by_text("Create New Model" if new else target, exact=True).last.click()
    if new:
        dialog.get_by_placeholder("Input a model name").press_sequentially(target)
    with page.expect_response(lambda answer: answer.url.endswith("model-versions/create")) as answered:
        dialog.get_by_role("button", name=button, exact=True).click()
    assert answered.value.ok
    return json.loads(answered.value.request.post_data)


def open_version(page: Page, uri: str, name: str, number: str) -> None:
    page.goto(f"{uri}/#/models/{name}/versions/{number}")
    page.get_by_role("heading", name=f"Version {number}").wait_for()
    _close_assistant(page)


def edit_description(page: Page, text: str) -> None:
    """Replaces the text on a version's page, which is open, as a person does."""
    page.get_by_text("Edit", exact=True).first.click()
    page.get_by_test_id("text-area").fill(text)
    with page.expect_response(lambda answer: answer.url.endswith("model-versions/update")) as answered:
        page.get_by_role("button", name="Save", exact=True).click()
    assert answered.value.ok


def open_artifact_of_run(page: Page, uri: str, experiment_id: str, run_id: str, name: str) -> None:
    """Opens a run's artifacts, and shows one of them."""
    page.goto(f"{uri}/#/experiments/{experiment_id}/runs/{run_id}")
    tab = page.get_by_role("tab", name="Artifacts")
    tab.wait_for()
    _close_assistant(page)
    tab.click()
    page.get_by_text(name, exact=True).first.click()
    page.get_by_text("Path:").first.wait_for()


def _close_assistant(page: Page) -> None:
    if os.environ.get(SCREENSHOTS):
        page.get_by_role("button", name="Close").click()  # the assistant, which takes a quarter of the page


def picture(page: Page, file: str) -> None:
    """Takes a picture for docs, if that is asked for."""
    if os.environ.get(SCREENSHOTS):
        page.wait_for_timeout(1000)  # menus and dialogs fade in
        taken = Image.open(io.BytesIO(page.screenshot()))
        taken.convert("RGB").quantize(128).save(ROOT / "docs" / file, optimize=True)  # a third of its size
