"""The report as a person meets it: in headless Chromium, light and dark, on a phone, on paper, with a keyboard."""

import re
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "unit"))
from report_documents import HOSTILE, clean, hostile, large, small

from flowlog_udfs.report.page import render

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine; Debian's package chromium has it")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield started
        started.close()


Open = Callable[..., Any]


@pytest.fixture
def opened(browser: Any, tmp_path: Path) -> Iterator[Open]:
    """Opens a document's page; at the end nothing was complained of and no request has left."""
    told: list[str] = []
    asked: list[str] = []
    pages = []

    def open_page(document: dict[str, Any], width: int = 1280, **options: Any) -> Any:
        path = tmp_path / "report.html"
        path.write_text(render(document), encoding="utf-8")
        page = browser.new_page(viewport={"width": width, "height": 800}, **options)
        page.on("console", lambda message: told.append(message.text))
        page.on("pageerror", lambda error: told.append(str(error)))
        page.on("request", lambda request: asked.append(request.url))
        page.goto(path.as_uri())
        pages.append(page)
        return page

    yield open_page
    for page in pages:
        page.close()
    assert told == []
    assert [url for url in asked if not re.fullmatch(r"file://.*/report\.html", url)] == []


def first_cells(page: Any, table: str, column: int) -> list[str]:
    return page.eval_on_selector_all(f"#{table} tbody tr", f"rows => rows.map(row => row.cells[{column}].textContent.trim())")


def test_tables_sort_both_ways_and_say_so(opened: Open) -> None:
    page = opened(small())
    heading = page.locator("#t-subnets thead th").nth(9)
    assert heading.get_attribute("aria-sort") is None
    heading.get_by_role("button").click()
    assert heading.get_attribute("aria-sort") == "ascending"
    assert first_cells(page, "t-subnets", 9) == ["0", "1", "2"]
    heading.get_by_role("button").press("Enter")
    assert heading.get_attribute("aria-sort") == "descending"
    assert first_cells(page, "t-subnets", 9) == ["2", "1", "0"]


def test_findings_filter_by_word_and_severity(opened: Open) -> None:
    page = opened(small())
    assert len(first_cells(page, "t-findings", 0)) == 5
    page.select_option("[data-choose=t-findings]", "high")
    assert first_cells(page, "t-findings", 0) == ["high"]
    page.select_option("[data-choose=t-findings]", "")
    page.fill("[data-filter=t-findings]", "10.0.0.3 TCP/22")
    assert first_cells(page, "t-findings", 3) == ["10.0.0.3 tcp/22"]
    assert page.locator("[data-shown=t-findings]").inner_text() == "1 of 5 shown"
    page.fill("[data-filter=t-findings]", "nothing of the kind")
    assert first_cells(page, "t-findings", 0) == []


def test_all_of_10_000_findings_can_be_reached(opened: Open) -> None:
    page = opened(large())
    page.wait_for_function("document.querySelectorAll('#t-findings tbody tr').length === 100")
    assert page.locator("[data-pages=t-findings] span").inner_text() == "page 1 of 100"
    page.get_by_role("button", name="Next →").click()
    assert first_cells(page, "t-findings", 3)[0] == "10.0.0.100 tcp/22"
    page.fill("[data-filter=t-findings]", "10.0.39.15")
    assert first_cells(page, "t-findings", 3) == ["10.0.39.15 tcp/22"]
    page.fill("[data-filter=t-findings]", "")
    page.locator("#t-findings thead th").nth(5).get_by_role("button").dblclick()
    assert first_cells(page, "t-findings", 5)[0] == "10,000"
    page.select_option("[data-choose=t-findings]", "info")
    assert page.locator("[data-shown=t-findings]").inner_text() == "2,000 of 10,000 shown"


@pytest.mark.parametrize("findings", [5, 150])
def test_markup_of_a_log_shows_as_text(opened: Open, findings: int) -> None:
    page = opened(hostile(findings))
    assert page.title() != "owned"
    assert page.locator("img").count() == 0
    assert HOSTILE in page.locator("#t-findings tbody tr").first.locator("td").nth(3).inner_text()


@pytest.mark.parametrize("make", [small, clean, large, hostile])
def test_a_phone_need_not_scroll_sideways(opened: Open, make: Any) -> None:
    page = opened(make(), width=360)
    assert page.evaluate("document.documentElement.scrollWidth") == 360


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_accessibility_rules_hold(opened: Open, scheme: str) -> None:
    from axe_playwright_python.sync_playwright import Axe

    # axe itself is a script: the page's policy must let the test in, as a reader's browser lets extensions in.
    page = opened(small(), color_scheme=scheme, bypass_csp=True)
    found = Axe().run(page).response["violations"]
    assert [(one["id"], [node["html"][:120] for node in one["nodes"]][:3]) for one in found] == []


def test_dark_is_dark(opened: Open) -> None:
    def brightness(page: Any) -> int:
        return sum(map(int, re.findall(r"\d+", page.evaluate("getComputedStyle(document.body).backgroundColor"))))

    assert brightness(opened(small(), color_scheme="dark")) < 150
    assert brightness(opened(small(), color_scheme="light")) > 600


def test_on_paper_controls_are_gone_and_boxes_are_open(opened: Open) -> None:
    page = opened(small())
    page.emulate_media(media="print")
    assert not page.locator("nav").is_visible()
    assert not page.locator("[data-filter=t-findings]").is_visible()
    assert page.evaluate("getComputedStyle(document.querySelector('.box.tall')).maxHeight") == "none"
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert page.evaluate("[...document.querySelectorAll('details')].every(one => one.open)")


def test_without_script_everything_important_is_there(opened: Open) -> None:
    page = opened(large(), java_script_enabled=False)
    assert page.locator("#t-findings tbody tr").count() == 100
    assert page.locator(".without-script").is_visible()
    assert not page.locator("[data-filter=t-findings]").is_visible()


def test_the_keyboard_reaches_the_report_first(opened: Open) -> None:
    page = opened(small())
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    page.keyboard.press("Enter")
    assert page.evaluate("location.hash") == "#main"
