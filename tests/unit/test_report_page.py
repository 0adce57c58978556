"""The report's page without a browser: its contract, its size, its escaping, the same bytes twice."""

import base64
import hashlib
import json
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from report_documents import HOSTILE, clean, finding, hostile, large, small, subnet

from flowlog_udfs.errors import FlowlogError
from flowlog_udfs.report.charts import human_bytes
from flowlog_udfs.report.document import to_json
from flowlog_udfs.report.page import render
from flowlog_udfs.report.schema import validate


class Page(HTMLParser):
    """Elements with their attributes, and text by the elements around it."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


@pytest.mark.parametrize("make", [small, clean, large, hostile])
def test_documents_keep_to_the_schema_and_render(make: Any) -> None:
    document = make()
    validate(document)
    assert render(document).startswith("<!doctype html>")


@pytest.mark.parametrize(
    "place, value",
    [
        (("day",), "10.3.2026"),
        (("verdict", "outcome"), "fine"),
        (("findings", 0, "connections"), -1),
        (("findings", 0, "severity"), "grave"),
        (("more",), 1),
    ],
)
def test_what_does_not_keep_to_the_schema_is_refused(place: tuple[Any, ...], value: object) -> None:
    document = small()
    inner: Any = document
    for name in place[:-1]:
        inner = inner[name]
    inner[place[-1]] = value
    with pytest.raises(FlowlogError, match="does not keep to its schema at"):
        validate(document)


def test_the_same_document_gives_the_same_bytes_in_another_process(tmp_path: Path) -> None:
    (tmp_path / "document.json").write_text(to_json(small()), encoding="utf-8")
    program = "import json, sys; from flowlog_udfs.report.page import render; "
    program += "sys.stdout.buffer.write(render(json.load(open(sys.argv[1]))).encode())"
    other = subprocess.run([sys.executable, "-c", program, tmp_path / "document.json"], capture_output=True, check=True).stdout
    assert other.decode() == render(small()) == render(json.loads(to_json(small())))


def test_a_large_report_stays_under_5_mb_and_holds_every_finding() -> None:
    document = large()
    text = render(document)
    assert len(text.encode()) < 5_000_000
    island = json.loads(re.search(r'<script type="application/json" id="rows">(.*?)</script>', text, re.DOTALL)[1])
    assert [row[4] for row in island["rows"]] == [one["subject"] for one in document["findings"]]


def row_texts(text: str) -> list[str]:
    """The rows of the table of findings as text."""
    table = re.search(r'<table class="sortable" id="t-findings">.*?</table>', text, re.DOTALL)[0]
    return [" ".join(" ".join(Page(row).texts).split()) for row in table.split("<tbody>")[1].split("</tr>")[:-1]]


NO_CONNECTIONS = {"rule": "coverage-gap", "connections": 0, "bytes_sent": 0, "bytes_received": 0, "examples": [], "exception": None}


def test_every_finding_shows_its_id_its_controls_and_who_answers_for_its_exception() -> None:
    document = small() | {"findings": [finding(0, **NO_CONNECTIONS), finding(1)]}
    gap, covered = row_texts(render(document))
    assert "NIST 800-53 SC-7 · 0000000000000000" in gap
    assert "NIST 800-53 SC-7 · 0000000000000001" in covered
    assert "Exception T-1: owner o, approved by a, until 2026-12-31" in covered


def test_no_finding_of_a_large_report_loses_them() -> None:
    document = large()
    document["findings"][0] |= NO_CONNECTIONS
    document["findings"][1]["examples"] *= 3
    text = render(document)
    assert all(f"NIST 800-53 SC-7 · {one['finding_id']}" in row for row, one in zip(row_texts(text), document["findings"], strict=False))
    island = json.loads(re.search(r'<script type="application/json" id="rows">(.*?)</script>', text, re.DOTALL)[1])
    for row, one in zip(island["rows"], document["findings"], strict=True):
        assert row[11] == one["finding_id"]
        assert island["words"]["controls"][row[12]] == "NIST 800-53 SC-7"
        told = "Exception T-1: owner o, approved by a, until 2026-12-31 (n)" if one["exception"] else ""
        assert island["words"]["exception"][row[13]] == told
    assert island["rows"][1][10].endswith("; 2 more in report.json")


def test_status_stands_beside_severity() -> None:
    assert re.search(r"Severity</th><th[^>]*>Status</th>", render(small()))
    assert row_texts(render(small()))[1].startswith("high suppressed admin-from-internet")


def test_charts_say_that_skipped_hours_are_lower_bounds() -> None:
    told = "hours with SKIPDATA are lower bounds"
    text = render(small())
    assert [told in caption for caption in re.findall(r"<figcaption>(.*?)</figcaption>", text)] == [True, True]
    assert told not in render(small() | {"subnets": [subnet(0)]})


def test_nothing_is_loaded_from_outside() -> None:
    page = Page(render(large()))
    for tag, attributes in page.elements:
        assert tag not in ("link", "img", "iframe", "object", "embed", "base", "form"), tag
        for name in ("src", "href", "xlink:href", "action"):
            assert (attributes.get(name) or "#").startswith("#"), (tag, attributes)
    assert not re.search(r"url\((?!#)|@import", render(large()))
    [policy] = [attributes["content"] for tag, attributes in page.elements if attributes.get("http-equiv") == "Content-Security-Policy"]
    assert policy.startswith("default-src 'none';") and "unsafe" not in policy


@pytest.mark.parametrize("make", [clean, large, hostile])
def test_the_policy_of_the_page_allows_its_own_style_and_script_and_no_other(make: Any) -> None:
    text = render(make())
    [policy] = re.findall(r'http-equiv="Content-Security-Policy" content="([^"]*)"', text)
    for directive, element in (("style-src", "style"), ("script-src", "script")):
        [content] = re.findall(rf"<{element}>(.*?)</{element}>", text, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert re.search(rf"{directive} ([^;]*)", policy)[1] == f"'sha256-{digest}'"
    assert not [tag for tag, attributes in Page(text).elements if "style" in attributes]


@pytest.mark.parametrize("findings", [5, 150])
def test_markup_in_any_text_stays_text(findings: int) -> None:
    text = render(hostile(findings))
    assert HOSTILE not in text
    page = Page(text)
    assert "img" not in {tag for tag, _ in page.elements}
    assert not [name for _, attributes in page.elements for name in attributes if name.startswith("on")]
    assert len([tag for tag, _ in page.elements if tag == "script"]) == 1 + (findings > 100)
    assert "".join(page.texts).count("<img src=x onerror=alert(1)>") > 30


def test_ids_are_there_once_and_every_link_has_its_place() -> None:
    page = Page(render(small()))
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    for tag, attributes in page.elements:
        for name in ("href", "aria-labelledby"):
            for target in (attributes.get(name) or "").replace("#", "").split():
                assert target in ids, (tag, target)


def test_words_that_only_a_clean_day_may_bear() -> None:
    text = render(small() | {"verdict": small()["verdict"] | {"outcome": "no_finding", "sentence": "No finding in what was seen"}})
    assert "No finding in what was seen" in text
    assert "everything expected was seen" not in text
    assert "everything expected was seen" in render(clean())


def test_figures_of_skipped_hours_are_lower_bounds_and_one_sided_flow_logs_are_named() -> None:
    text = render(small())
    assert text.count("≥ ") > 3
    assert "<code>fl-1</code> shows ACCEPT only" in text
    assert "PCI DSS 4.0.1 1.3*" in text and "NIST 800-53 SC-7*" not in text


@pytest.mark.parametrize(
    "count, text",
    [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (99_949, "99.9 kB"), (99_950, "100 kB"), (999_500, "1.0 MB"), (3 * 10**15, "3.0 PB")],
)
def test_bytes_as_a_person_reads_them(count: int, text: str) -> None:
    assert human_bytes(count) == text
