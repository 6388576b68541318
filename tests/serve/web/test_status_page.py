"""The server's page in a real browser: looked at in both themes and two widths, with a key, and without an answer."""

from __future__ import annotations

import io
import os
import re
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from conftest import servers
from following_support import out_of_parity, put, until
from mlflow_ui import SCREENSHOTS, open_browser
from PIL import Image
from playwright.sync_api import Browser, Page, expect
from quarter_hour import fill
from tests_support import EXAMPLE, ROOT, Server
from without_pedals import KINDS

from carla_mlflow import open_artifact

pytestmark = [pytest.mark.slow, pytest.mark.browser, pytest.mark.xdist_group("browser")]
KEY = "s3cret"
OF_ITSELF = "Failed to load resource:"
"""How begins what a browser says on its console of each error, such as a key that is refused."""


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with a key and a quarter of an hour behind it, which follows a folder with a good and a bad version."""
    example, policies = open_artifact(EXAMPLE), tmp_path_factory.mktemp("policies")
    put(policies, example)
    with pytest.MonkeyPatch.context() as patched, servers(tmp_path_factory) as start:
        patched.setenv("POLICY_API_KEY", KEY)
        patched.setenv("TMPDIR", str(tmp_path_factory.mktemp("tmp")))
        server = start("--model", f"{policies}/@^0.1", "--poll-s", "0.2", "--workers", "2")
        tmp = Path(os.environ["TMPDIR"])
        patched.undo()  # other servers have no key
        server.wait_ready()
        put(policies, out_of_parity(example, "0.1.2"))
        until(lambda: "0.1.2 is refused" in server.get("/readyz").body.decode(), server)
        [run_folder] = tmp.glob("carla-serve-*")
        fill(run_folder, example)
        yield server


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with tempfile.TemporaryDirectory(dir="/tmp") as folder, pytest.MonkeyPatch.context() as patched:
        patched.setenv("TMPDIR", folder)  # the browser's socket has a path of at most 107 bytes
        with open_browser() as opened:
            yield opened


@pytest.fixture
def look(browser: Browser) -> Iterator[Callable[..., Page]]:
    """Opens pages which say nothing on their consoles, and ask no other host."""
    said: list[str] = []
    asked: list[tuple[str, str]] = []
    pages: list[Page] = []

    def open_page(url: str, key: str | None = None, width: int = 1280, theme: str = "light") -> Page:
        profile = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=theme)  # type: ignore[arg-type]
        pages.append(page := profile.new_page())
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("request", lambda request: asked.append((url, request.url)))
        page.goto(url)
        if key is not None:
            page.get_by_label("The server's key").fill(key)
            page.keyboard.press("Enter")
        return page

    yield open_page
    for page in pages:
        page.context.close()
    assert [text for text in said if not text.startswith(OF_ITSELF)] == []
    assert all(address.startswith((url, "data:")) for url, address in asked)


def test_the_page_shows_what_drives_to_holders_of_the_key(served: Server, look: Callable[..., Page]):
    page = look(served.url, "wrong")
    expect(page.locator("#key-text")).to_contain_text("The server refused this key")
    expect(page.locator("#known")).to_be_hidden()
    page.get_by_label("The server's key").fill(KEY)
    page.keyboard.press("Enter")
    expect(page.locator("#title")).to_have_text("racetrack-policy 0.1.0")
    expect(page.locator("#ready")).to_have_text("ready")
    expect(page.locator("#warnings")).to_contain_text("0.1.2 is refused (parity)")
    expect(page.locator("#versions")).to_contain_text(re.compile("0.1.2.*refused.*64 of 64 rows differ"))
    expect(page.locator("#moves li").first).to_contain_text("0.1.0 was rolled back to production")
    expect(page.locator("#moves li").first).to_contain_text("by grace@cars")
    expect(page.locator("#moves li").first).to_contain_text("oscillates behind slow cars")
    for name in ("requests", "latency", "errors", "fallbacks", "saturation", "outside", "of-action-steer"):
        figure = page.locator(f"#{name}")
        expect(figure.locator("svg").first).to_have_attribute("aria-label", re.compile(r"\d"))
        figure.get_by_text("As a table").click()
        expect(figure.locator("tbody tr")).to_have_count(15)
    page.reload()  # the history is the server's, and the key the tab's
    expect(page.locator("#latency .legend")).to_contain_text("p99")
    page.context.set_offline(True)
    expect(page.locator("#ready")).to_contain_text(re.compile("no answer since .* trying again"))
    page.context.set_offline(False)
    expect(page.locator("#ready")).to_have_text("ready")


def test_the_form_asks_as_the_card_says_and_explains_what_is_refused(served: Server, look: Callable[..., Page]):
    page = look(served.url, KEY)
    page.keyboard.press("Tab")
    page.get_by_label("speed, as a number").fill("6")
    page.get_by_label("sensors 3, as a number").fill("0.25")
    page.keyboard.press("Enter")
    observation = {"speed": 6.0, "steering": 0.0, "sensors": [0.5, 0.5, 0.5, 0.25, *[0.5] * 8]}
    asked = served.send(
        "POST",
        "/predict",
        b'{"observations":[%s]}' % str(observation).replace("'", '"').encode(),
        {"Content-Type": "application/json", "Authorization": f"Bearer {KEY}"},
    ).json["actions"][0]
    answer = page.locator("#answer")
    expect(answer.locator("tr").nth(2)).to_have_text(f"steer{float(format(asked['steer'], '.3g')):g}")
    expect(answer).to_contain_text("answered by 0.1.0")
    page.get_by_label("Budget in ms").fill("0")
    page.get_by_role("button", name="Ask", exact=True).click()
    expect(answer).to_contain_text("The answer came too late for the budget.")
    expect(answer.locator("caption")).to_have_text("Fallback")
    page.get_by_label("Budget in ms").fill("")
    page.locator("#field-sensors-3").evaluate("input => input.removeAttribute('max')")  # as if the card had changed
    page.get_by_label("sensors 3, as a number").fill("7")
    page.get_by_role("button", name="Ask", exact=True).click()
    expect(answer).to_contain_text("The observation does not fit the card.")
    expect(answer).to_contain_text("observations[0].sensors[3] 7 is outside [0, 1]")
    expect(page.locator("#field-sensors-3")).to_have_attribute("aria-invalid", "true")
    expect(page.locator("#field-sensors-3")).to_be_focused()
    page.get_by_role("button", name="Random").click()
    page.get_by_role("button", name="Ask", exact=True).click()
    expect(answer).to_contain_text("answered by")


def test_no_tick_of_an_axis_is_cut_off_however_long_its_number(served: Server, look: Callable[..., Page]):
    page = look(served.url, KEY)
    expect(page.locator("#latency .legend")).to_contain_text("p99")
    page.evaluate(SLOW_FOR_SECONDS)
    ticks = page.locator("#slow .axes text")
    expect(ticks.filter(has_text="10,000 ms")).to_have_count(1)
    assert page.evaluate(CUT_OFF) == []


@pytest.mark.parametrize("width", [1280, 390])
def test_the_texts_of_near_moves_do_not_cover_each_other(served: Server, look: Callable[..., Page], width: int):
    page = look(served.url, KEY, width)
    expect(page.locator("#latency .legend")).to_contain_text("p99")
    shown, covered = page.evaluate(MOVED_OFTEN)
    assert (shown >= 8, covered) == (True, 0)


def test_the_bars_of_a_shadow_say_which_differences_they_count(served: Server, look: Callable[..., Page]):
    page = look(served.url, KEY)
    expect(page.locator("#ready")).to_have_text("ready")
    page.evaluate(WITH_A_SHADOW)
    said = "The bars, from the left: rows that differ by at most 0, 0.001, 2, and by more than those before."
    expect(page.locator("#of-shadow-steer-bars")).to_have_text(said)
    expect(page.locator("#of-shadow-steer rect")).to_have_count(3)


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_it_can_be_read_in_both_themes_on_a_desktop_and_a_phone(served: Server, look: Callable[..., Page], theme: str):
    for width in (1280, 390):
        page = look(served.url, KEY, width, theme)
        page.get_by_role("button", name="Ask", exact=True).click()
        expect(page.locator("#answer caption")).to_have_text("Action")
        expect(page.locator("#of-action-steer .cell").first).to_be_attached()
        assert page.evaluate("document.documentElement.scrollWidth") == width
        assert page.evaluate(HARD_TO_READ) == []
        assert page.evaluate(WITHOUT_NAME) == []
        page.evaluate("scrollTo(0, 0)")
        if os.environ.get(SCREENSHOTS):
            take_picture(page, width, theme)
    page.get_by_label("Theme").select_option("light" if theme == "dark" else "dark")
    assert page.evaluate(HARD_TO_READ) == []
    page.reload()
    expect(page.get_by_label("Theme")).to_have_value("light" if theme == "dark" else "dark")


def test_a_choice_has_a_row_for_each_label(
    start_server: Callable[..., Server], tmp_path: Path, look: Callable[..., Page]
):
    kind = KINDS["labelled"]
    server = start_server("--model", str(kind.write(tmp_path)))
    server.wait_ready()
    page = look(server.url)
    for row in kind.rows:
        for place, value in enumerate(row):
            page.locator(f"#field-x-{place}").fill(str(value))
        page.get_by_role("button", name="Ask", exact=True).click()
        expect(page.locator("#answer caption")).to_have_text("Action")
        page.locator("#answer").evaluate("answer => answer.replaceChildren()")
    figure = page.locator("#of-action-choice")
    expect(figure.locator(".cell").first).to_be_attached()
    assert figure.locator(".axes text").all_text_contents()[:3] == ["LEFT", "IDLE", "RIGHT"]
    figure.get_by_text("As a table").click()
    expect(figure.locator("tbody")).to_contain_text(re.compile(r"(LEFT|RIGHT) \(\d+ %\)"))


def take_picture(page: Page, width: int, theme: str) -> None:
    """Saves the page in docs: all of it on a light desktop, else what one sees of it first."""
    page.wait_for_timeout(2500)
    name = f"dashboard-{'phone-' * (width == 390)}{theme}.png"
    shown = page.screenshot(full_page=(width, theme) == (1280, "light"))
    Image.open(io.BytesIO(shown)).quantize(64).save(ROOT / "docs" / "images" / name, optimize=True)


SLOW_FOR_SECONDS = """async () => {
  const { lines } = await import("/pages/lines.js");
  const points = [0, 10, 20].map((at) => ({ at, seconds: 10 }));
  const format = (value) => `${value.toLocaleString("en")} ms`, series = { p99: [1, 3000, 9000] };
  lines("slow", "plots", { title: "Slow", points, marks: [], log: true, format, series });
}"""
"""Draws a plot of answers that take seconds: a script may."""

MOVED_OFTEN = """async () => {
  const { lines } = await import("/pages/lines.js");
  const points = Array.from({ length: 90 }, (_, index) => ({ at: 10 * index, seconds: 10 }));
  const moved = [440, 445, 450, 451, 452, 455, 460, 470, 850, 855];
  const marks = moved.map((at, index) => ({ at, text: `0.1.${index} (canary)` }));
  const series = { p50: points.map(() => 1) }, format = (value) => `${value} ms`;
  lines("moved", "plots", { title: "Moved often", points, marks, format, series });
  const boxes = [...document.querySelectorAll("#moved .marks text")].map((text) => text.getBoundingClientRect());
  const isBeside = (a, b) => a.left >= b.right || b.left >= a.right || a.top >= b.bottom - 1 || b.top >= a.bottom - 1;
  const isCovered = (a, b) => a !== b && !isBeside(a, b);
  return [boxes.length, boxes.filter((box) => boxes.some((other) => isCovered(box, other))).length];
}"""
"""Draws a plot with ten moves, eight within half a minute; how many texts it shows, and how many lie on others."""

WITH_A_SHADOW = """async () => {
  const { shadow } = await import("/pages/shadow.js");
  const steer = { name: "steer", mean: 0.1, p99: 0.2, max: 0.3, histogram: [[0, 5], [0.001, 2], [2, 1], [null, 0]] };
  const beside = [{ version: "0.1.0", rows: 8, disagreements: 1, figures: { dimensions: [steer] } }];
  shadow({ up: true, name: "mine", version: "0.2.0", skipped: {}, beside });
}"""

CUT_OFF = """() => [...document.querySelectorAll(".axes text")]
  .filter((text) => text.getBoundingClientRect().left < text.ownerSVGElement.getBoundingClientRect().left)
  .map((text) => text.textContent)"""
"""The ticks of which the beginning lies outside their plot."""

HARD_TO_READ = """() => {
  const light = (colour) => {
    const parts = colour.match(/[\\d.]+/g).slice(0, 3).map((part) => part / 255);
    const [r, g, b] = parts.map((part) => (part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const behind = (element) => {
    for (let at = element; at; at = at.parentElement) {
      const colour = getComputedStyle(at).backgroundColor;
      if (!/, 0\\)$|transparent/.test(colour)) return colour;
    }
    return "rgb(255, 255, 255)";
  };
  const found = [];
  for (const element of document.querySelectorAll("body *")) {
    const own = [...element.childNodes].some((node) => node.nodeType === 3 && node.data.trim());
    if (!own || !element.checkVisibility()) continue;
    const style = getComputedStyle(element);
    const isDrawn = element.namespaceURI.endsWith("svg");
    const [a, b] = [light(isDrawn ? style.fill : style.color), light(behind(element))];
    const contrast = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (contrast < 4.5) found.push([element.textContent.slice(0, 40), style.color, contrast]);
  }
  return found;
}"""
"""The texts whose contrast lies below 4.5 to 1 (WCAG 2.2, 1.4.3)."""
WITHOUT_NAME = """() => [...document.querySelectorAll("input, select, textarea, button, svg[role], canvas[role]")]
  .filter((each) => each.checkVisibility() && !(each.labels?.length || each.ariaLabel || each.textContent.trim()))
  .map((each) => each.outerHTML.slice(0, 80))"""
"""What one can do something with, but a screen reader could not say what."""
