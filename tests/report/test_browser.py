"""The report in a real Chromium: nothing fails, nothing is fetched, and what can be pressed works.

Pictures of the page stay in ``build/report`` for people to look at.
"""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from etude.runs.folder import RunFolder
from etude.runs.report import write_report
from report.made_run import write_history, write_run

PICTURES = Path(__file__).parents[2] / "build" / "report"
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")

pytestmark = pytest.mark.skipif(
    CHROMIUM is None,
    reason="no Chromium is installed, so that the page is not tried in a browser: apt-get install chromium",
)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """A headless Chromium; a sandbox of its own it can only have where the kernel lets it."""
    api = pytest.importorskip(
        "playwright.sync_api", reason="playwright drives the browser: pip install playwright"
    )
    with api.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


class Visit:
    """A page in the browser that writes down every complaint and every request."""

    def __init__(self, browser: Any, page: Path) -> None:
        size = {"width": 1200, "height": 900}
        self.tab = browser.new_context(viewport=size, color_scheme="light").new_page()
        self.complaints: list[str] = []
        self.requests: list[str] = []
        self.tab.on("console", lambda message: self.complaints.append(f"{message.type}: {message.text}"))
        self.tab.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.tab.route("**/*", self._watch)
        self.url = page.as_uri()
        self.tab.goto(self.url)
        self.tab.wait_for_selector("html[data-ready]", timeout=60_000)

    def _watch(self, route: Any) -> None:
        self.requests.append(route.request.url)
        if len(self.requests) == 1:
            route.continue_()
        else:
            route.abort()

    def was_quiet(self) -> None:
        """Nothing was complained of, and nothing but the page itself was asked for."""
        assert self.complaints == []
        assert self.requests == [self.url]

    def picture(self, name: str) -> None:
        """Keep the upper part of the page, which is where the charts are."""
        PICTURES.mkdir(parents=True, exist_ok=True)
        upper = {"x": 0, "y": 0, "width": self.tab.viewport_size["width"], "height": 4000}
        self.tab.screenshot(path=PICTURES / f"{name}.png", full_page=True, clip=upper)

    def column(self, table: str, number: int) -> list[str]:
        """The cells of a column as they are shown."""
        cells: list[str] = self.tab.locator(
            f"{table} tbody tr:visible td:nth-child({number})"
        ).all_inner_texts()
        return [cell.strip() for cell in cells]

    def colour(self, selector: str, name: str) -> str:
        return str(self.tab.locator(selector).first.evaluate(f"e => getComputedStyle(e).{name}"))


def test_the_page_lives(browser: Any, tmp_path: Path) -> None:
    page = write_report(write_run(tmp_path / "run", "multilabel").path)
    visit = Visit(browser, page)
    tab = visit.tab
    assert tab.title() == "run"
    n_charts = tab.locator("[data-chart]").count()
    assert n_charts == tab.locator("[data-chart] svg").count() == 10
    assert all(tab.locator("[data-chart]").nth(i).get_attribute("aria-label") for i in range(n_charts))
    visit.picture("desktop")
    sorting(visit)
    filtering(visit)
    picking_a_label(visit)
    pointing(visit)
    themes(visit)
    paper(visit)
    phone(visit)
    visit.was_quiet()


def sorting(visit: Visit) -> None:
    """A heading sorts by mouse and by keyboard, and says so."""
    heading = visit.tab.locator("#labels th:nth-child(3)")
    heading.locator("button").click()
    falling = [float(cell) for cell in visit.column("#labels", 3)]
    assert falling == sorted(falling, reverse=True)
    assert heading.get_attribute("aria-sort") == "descending"
    heading.locator("button").focus()
    visit.tab.keyboard.press("Enter")
    assert [float(cell) for cell in visit.column("#labels", 3)] == sorted(falling)
    assert heading.get_attribute("aria-sort") == "ascending"
    visit.tab.keyboard.press("Tab")
    visit.tab.keyboard.press("Space")
    recalls = [float(cell) for cell in visit.column("#labels", 4)]
    assert recalls == sorted(recalls, reverse=True)
    assert heading.get_attribute("aria-sort") == "none"


def filtering(visit: Visit) -> None:
    """Words in the field leave the failures that hold them; texts of the data are texts."""
    field = visit.tab.locator("#failure-filter")
    field.fill("<script>document TAKEN")
    shown = visit.column("#failures", 1)
    assert shown
    assert all("<script>document" in text for text in shown)
    assert "rows" in visit.tab.locator("#failures output").inner_text()
    field.fill("")
    assert len(visit.column("#failures", 1)) > len(shown)


def picking_a_label(visit: Visit) -> None:
    """The list beside the threshold's curve draws that of another label."""
    line = "[data-chart=thresholds] .mark-line path"
    before = visit.tab.locator(line).first.get_attribute("d")
    visit.tab.locator("[data-chart=thresholds] select").select_option("<b>login</b>")
    visit.tab.wait_for_function(
        "([line, before]) => document.querySelector(line).getAttribute('d') !== before", arg=[line, before]
    )


def pointing(visit: Visit) -> None:
    """A square of the matrix tells its labels as text."""
    visit.tab.locator("[data-chart=confusion] .mark-text text").nth(2).hover()
    tip = visit.tab.locator(".tip")
    tip.wait_for(state="visible")
    assert "<b>login</b>" in tip.inner_text()


def themes(visit: Visit) -> None:
    """The button goes from the system's theme to light and dark, and charts follow."""
    button = visit.tab.locator("[data-theme-switch]")

    def colours() -> tuple[str, str]:
        return visit.colour("body", "backgroundColor"), visit.colour("[data-chart=loss] text", "fill")

    light = colours()
    visit.tab.emulate_media(color_scheme="dark")
    dark = colours()
    assert not set(light) & set(dark)
    button.click()
    assert button.inner_text() == "Theme: light"
    assert colours() == light
    visit.tab.emulate_media(color_scheme="light")
    button.click()
    assert button.inner_text() == "Theme: dark"
    assert colours() == dark
    visit.picture("dark")


def paper(visit: Visit) -> None:
    """On paper the page is white whatever the theme, whole tables are shown, and nothing that is pressed."""
    visit.tab.emulate_media(media="print")
    assert visit.colour("body", "backgroundColor") == "rgb(255, 255, 255)"
    assert not visit.tab.locator("[data-theme-switch]").is_visible()
    assert visit.colour(".table.long", "maxHeight") == "none"
    assert len(visit.tab.pdf()) > 50_000
    visit.picture("print")
    visit.tab.emulate_media(media="screen")


def phone(visit: Visit) -> None:
    """A phone shows the page without scrolling sideways."""
    visit.tab.set_viewport_size({"width": 390, "height": 844})
    assert visit.tab.evaluate("document.documentElement.scrollWidth") <= 390
    visit.picture("phone")


def test_the_page_is_read_without_scripts(browser: Any, tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    (tmp_path / "config.toml").write_text('[data]\ntrain = "a.csv"\n')
    write_history(run)
    page = write_report(tmp_path)
    tab = browser.new_context(java_script_enabled=False).new_page()
    tab.goto(page.as_uri())
    assert "Scripts are switched off" in tab.locator("noscript").inner_text()
    assert "The training loss fell" in tab.locator("figcaption").first.inner_text()
